-- Renews places of requests that still run. A place that is gone is taken again, even if no place is
-- left: Redis did not answer for longer than a place lasts, or never learnt of it. Its own arguments
-- (places.go builds them):
--
--   ARGV[rest]      when the places end, in ms from now, 1 or more
--   ARGV[rest + 1]  until when a place that is gone is taken again, in ms: a call that arrives later
--                   may do so after the leave.lua of the same request
--   ARGV[rest + 2]...   place/ID, with the reservation's id, 1 or more times
--
-- Codes: OK, OUTDATED.

read_fields()
local ends, in_time = now + ARGV[rest], now <= tonumber(ARGV[rest + 1])
local renewed, taken = false, 0
for i = rest + 2, #ARGV do
  if in_time or call('HGET', key, ARGV[i]) then
    taken = taken + call('HSET', key, ARGV[i], format_time(ends))
    renewed = true
  end
end
if taken > 0 then
  call('HSET', key, 'user', ARGV[2])
  call('HINCRBY', key, 'places', taken)
end
if renewed then
  note_ends(ends, ends)
end
if outdated then
  return reply_outdated()
end
return reply_with(OK, {}, 1)
