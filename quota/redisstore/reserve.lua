-- Holds one unit in every window of the view, or changes nothing. Sent twice, it
-- holds once.
--
--   ARGV[rest]      the reservation's id
--   ARGV[rest + 1]  the lease, ms, 1 or more
--   ARGV[rest + 2]  the endpoint
--   ARGV[rest + 3]  l, the number of limits, 0 or more; l times:
--     requests      the limit on the counter of the same place in the view,
--                   or -1 when it does not apply to the endpoint
--
-- Codes: OK, REFUSED (a limit is reached), TURNED, SETTLED (the id was committed
-- or released before; nothing is held).

if turned then
  return { TURNED, now }
end
sweep()

local id, endpoint = ARGV[rest], ARGV[rest + 2]
local known = redis.call('HMGET', key, 'lease/' .. id, 'done/' .. id)
if known[2] then
  return answer(SETTLED, counts())
end
if known[1] then
  return answer(OK, counts())
end

local values = counts()
for i = 1, tonumber(ARGV[rest + 3]) do
  local requests = tonumber(ARGV[rest + 3 + i])
  if requests >= 0 and values[2 * i - 1] + values[2 * i] >= requests then
    return answer(REFUSED, values)
  end
end

local expiry = now + ARGV[rest + 1]
local lease = text(expiry) .. ' ' .. endpoint
for i = 1, #windows do
  lease = lease .. ' ' .. windows[i].id
end
redis.call('HSET', key, 'user', ARGV[2], 'lease/' .. id, lease)
hold(lease, 1)
expire(expiry, expiry)
return answer(OK, counts())
