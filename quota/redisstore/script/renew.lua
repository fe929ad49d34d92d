-- Renews places of requests that still run. One that has ended is not given again. Its own
-- arguments (renew.go builds them):
--
--   ARGV[rest]      when the places end, in ms from now, 1 or more
--   ARGV[rest + 1]...   place/ID, with the reservation's id, 1 or more times
--
-- Codes: OK, OUTDATED.

read_fields()
local ends = now + ARGV[rest]
for i = rest + 1, #ARGV do
  if call('HGET', key, ARGV[i]) then
    call('HSET', key, ARGV[i], format_time(ends))
  end
end
keep_key_until(ends)
if outdated then
  return reply_outdated()
end
return reply_with(OK, {}, 1)
