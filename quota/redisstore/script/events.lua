-- Ends crossings of an account, and says what is left. activity.lua stands before it. Its own arguments
-- (crossings.go builds them):
--
--   ARGV[rest]         how long a crossing is kept, in ms
--   ARGV[rest + 1]...  the ids of crossings to end, 0 or more
--
-- The code is always OUTDATED, and its text is the plan override; then, on a line, the number of leases and rests, and
-- when the oldest of the crossings that are left was recorded, in ms; 0: there are none.

read_fields()
local events, ended = call('HGET', key, 'events') or '', {}
for i = rest + 1, #ARGV do
  ended[ARGV[i]] = true
end
local left = string.gsub(events, '\n(%S+)[^\n]*', function(id)
  return ended[id] and ''
end)
if left ~= events then
  if string.find(left, '\n', 1, true) then
    call('HSET', key, 'events', left)
  else
    call('HDEL', key, 'events')
  end
end
local oldest = '0'
for at in string.gmatch(left, '\n%S+ (%d+)') do
  if at + ARGV[rest] > now then
    oldest = at
    break
  end
end
terms = read_activity() .. ' ' .. oldest
return reply_outdated()
