-- Gives back places that reserve.lua has given to requests of one user. Sent twice, it does so
-- once. Its own arguments (leave.go builds them):
--
--   ARGV[rest]...   place/ID, with the reservation's id, 1 or more times
--
-- Codes: OK, OUTDATED.

read_fields()
local left = call('HDEL', key, unpack(ARGV, rest))
if left > 0 then
  changed = true
  if call('HINCRBY', key, 'places', -left) <= 0 then
    call('HDEL', key, 'places')
  end
end
if outdated then
  return reply_outdated()
end
return reply_with(OK, {}, 1)
