-- Sets the terms of an account, if they are still those that the gateway assumes. Its own arguments
-- (terms.go builds them):
--
--   ARGV[rest]      the terms; empty: none
--   ARGV[rest + 1]  ms: the account is kept until then
--   ARGV[rest + 2]  n: no lease or rest, and n windows, must be there; -: whatever there is
--
-- Codes: OK, OUTDATED.

read_fields()
if outdated or not activity_is(ARGV[rest + 2]) then
  return reply_outdated()
end
changed = true
if ARGV[rest] ~= '' then
  call('HSET', key, 'user', ARGV[2], 'terms', ARGV[rest])
  keep_key_until(tonumber(ARGV[rest + 1]))
else
  call('HDEL', key, 'terms')
end
return reply_with(OK, {}, 1)
