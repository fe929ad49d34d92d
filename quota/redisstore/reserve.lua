-- Holds one unit in every window of the view, or changes no count and no hold. Sent
-- twice, it holds once.
--
--   ARGV[rest]      the reservation's id
--   ARGV[rest + 1]  the lease, ms, 1 or more
--   ARGV[rest + 2]  the endpoint
--   ARGV[rest + 3]  the attempts that the user may make at once, 0: not bounded
--   ARGV[rest + 4]  the time in which one of them comes back, µs
--   ARGV[rest + 5]  l, the number of limits, 0 or more; l times:
--     requests      the limit on the counter of the same place in the view,
--                   or -1 when it does not apply to the endpoint
--
-- Codes: OK, REFUSED (a limit is reached), TURNED, SETTLED (the id was committed
-- or released before; nothing is held), THROTTLED (there is no attempt left; the
-- answer ends with one number more, the time until there is one, µs).

if turned then
  return { TURNED, now }
end
sweep()

local id, endpoint = ARGV[rest], ARGV[rest + 2]
local known = redis.call('HMGET', key, 'lease/' .. id, 'done/' .. id, 'attempts')
if known[2] then
  return answer(SETTLED, counts())
end
if known[1] then
  return answer(OK, counts())
end

-- attempt takes one, and returns 0 or the time until there is one. It is Attempts.Take
-- of package quota; in µs all numbers stay below 2^53.
local function attempt(most, interval)
  if most == 0 then
    return 0
  end
  local at = now * 1000 + time[2] % 1000
  local full, fill = math.max(tonumber(known[3]) or 0, at), most * interval
  if full > at + fill + interval then
    full = at + fill - interval
  end
  full = full + interval
  if full > at + fill then
    return full - at - fill
  end
  redis.call('HSET', key, 'user', ARGV[2], 'attempts', text(full))
  live(full / 1000)
  return 0
end

local wait = attempt(tonumber(ARGV[rest + 3]), tonumber(ARGV[rest + 4]))
local values = counts()
if wait > 0 then
  values[#values + 1] = wait
  return answer(THROTTLED, values)
end
for i = 1, tonumber(ARGV[rest + 5]) do
  local requests = tonumber(ARGV[rest + 5 + i])
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
