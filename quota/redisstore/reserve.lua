-- Holds one unit in every window of the view, or changes no count and no hold. Sent
-- twice, it holds once.
--
--   ARGV[rest]      the reservation's id
--   ARGV[rest + 1]  the lease, ms, 1 or more
--   ARGV[rest + 2]  the endpoint
--   ARGV[rest + 3]  the attempts that the user may make at once, 0: not bounded
--   ARGV[rest + 4]  the time in which one of them comes back, µs
--   ARGV[rest + 5]  1: the request is observed, neither limits nor attempts refuse it; or 0
--   then            for each of the view's limits:
--     requests      the limit without grants, or -1 when it does not apply to the
--                   endpoint
--   then            the plan of the user's token, for claimed
--
-- Codes: OK, REFUSED (a limit is reached), OUTDATED, SETTLED (the id was committed
-- or released before; nothing is held), THROTTLED (there is no attempt left; the
-- answer ends with one number more, the time until there is one, µs), EXHAUSTED (as OK,
-- but there was no attempt left, and the request is observed).

if outdated then
  return { OUTDATED, now, expired, override }
end
sweep()

local id, endpoint = ARGV[rest], ARGV[rest + 2]
local bucket = 'attempts/' .. ARGV[rest + 3] .. '/' .. ARGV[rest + 4]
local known = redis.call('HMGET', key, 'lease/' .. id, 'done/' .. id, bucket)
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
  redis.call('HSET', key, 'user', ARGV[2], bucket, text(full))
  live(full / 1000)
  return 0
end

local observed = ARGV[rest + 5] == '1'
local wait = attempt(tonumber(ARGV[rest + 3]), tonumber(ARGV[rest + 4]))
local values = counts()
if wait > 0 and not observed then
  values[#values + 1] = wait
  return answer(THROTTLED, values)
end
for i = 1, limits do
  local requests = tonumber(ARGV[rest + 5 + i])
  if not observed and requests >= 0 and values[2 * i - 1] + values[2 * i] >= requests + (values[2 * counters + i] or 0) then
    return answer(REFUSED, values)
  end
end

local expiry = now + ARGV[rest + 1]
local lease = text(expiry) .. ' ' .. endpoint
for i = 1, #windows do
  lease = lease .. ' ' .. windows[i].id
end
redis.call('HSET', key, 'user', ARGV[2], 'claimed', ARGV[rest + 6 + limits], 'lease/' .. id, lease)
hold(lease, 1)
expire(expiry, expiry)
-- The view's windows are those of the lease, so that there is no need to read again.
for i = 1, counters do
  local counted = string.match(fields[2 * i], '^[^/]+/[^/]+/(.+)$')
  if not counted or counted == endpoint then
    values[2 * i] = values[2 * i] + 1
  end
end
return answer(wait > 0 and EXHAUSTED or OK, values)
