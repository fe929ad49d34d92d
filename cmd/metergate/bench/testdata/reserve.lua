-- The first half of the minimal pair: sets one request of a user aside, and returns how many the
-- user then has, those under way included, or -1 if the limit is reached.
-- KEYS[1]  a hash of the user for one window of time
-- ARGV[1]  the limit, in requests
-- ARGV[2]  how long the hash is kept, in seconds
local counts = redis.call('HMGET', KEYS[1], 'used', 'held')
local taken = (tonumber(counts[1]) or 0) + (tonumber(counts[2]) or 0)
if taken >= tonumber(ARGV[1]) then
  return -1
end
redis.call('HINCRBY', KEYS[1], 'held', 1)
if not counts[2] then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
return taken + 1
