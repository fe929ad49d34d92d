-- The second half of the minimal pair: counts the request that was set aside, or gives it back,
-- and returns how many of the user's requests are counted.
-- KEYS[1]  the hash of reserve.lua
-- ARGV[1]  1: count it, 0: give it back
redis.call('HINCRBY', KEYS[1], 'held', -1)
return redis.call('HINCRBY', KEYS[1], 'used', ARGV[1])
