-- Replaces the hash of an account by one that was read elsewhere, in one step. It does not need common.lua.
--
--   KEYS[1]   the hash
--   ARGV[1]   when the key ends by Redis's clock, in ms since 1970; 0: never
--   ARGV[2]   the channel on which the change is announced
--   ARGV[3]   the first field, ARGV[4] its value, and so on: 0 or more pairs; without any, the account is dropped
--
-- Returns 1.

-- The key ends with its last field, and its expiry with it. The rule for Redis users in docs/operate.md permits no DEL.
local before = redis.call('HGETALL', KEYS[1])
for i = 1, #before, 2 do
  redis.call('HDEL', KEYS[1], before[i])
end
for i = 3, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
if ARGV[1] ~= '0' then
  redis.call('PEXPIREAT', KEYS[1], ARGV[1])
end
redis.pcall('PUBLISH', ARGV[2], '')
return 1
