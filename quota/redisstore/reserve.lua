-- Holds one unit in every window of the view, or changes no count and no hold. Sent
-- twice, it holds once.
--
--   ARGV[rest]      lease/ID, with the reservation's id
--   ARGV[rest + 1]  done/ID
--   ARGV[rest + 2]  attempts/N/I
--   ARGV[rest + 3]  how long the lease is, ms, 1 or more
--   ARGV[rest + 4]  what it holds: "E W W ...", the endpoint and the view's windows
--   ARGV[rest + 5]  N, the attempts that the user may make at once, 0: not bounded
--   ARGV[rest + 6]  I, the time in which one of them comes back, µs
--   ARGV[rest + 7]  1: the request is observed, neither limits nor attempts refuse it; or 0
--   ARGV[rest + 8]  the plan of the user's token, for claimed
--   then            for each of the view's limits:
--     requests      the limit without grants, or -1 when it does not apply to the
--                   endpoint
--
-- Codes: OK, REFUSED (a limit is reached), OUTDATED, SETTLED (the id was committed
-- or released before; nothing is held), HELD (the id is held already), THROTTLED (there is
-- no attempt left; the answer ends with one number more, the time until there is one, µs),
-- EXHAUSTED (as OK, but there was no attempt left, and the request is observed). The counts
-- are those before the call.

local found = look(unpack(ARGV, 8, rest + 2))
if outdated then
  return mismatch()
end
local own = FOUND + ARGV[6]
if found[own + 1] then
  return answer(SETTLED, found, FOUND)
end
if found[own] then
  return answer(HELD, found, FOUND)
end

-- One attempt is taken, or the time until there is one. It is Attempts.Take of package
-- quota; in µs all numbers stay below 2^53.
local most, interval = tonumber(ARGV[rest + 5]), tonumber(ARGV[rest + 6])
local full, wait = nil, 0
if most > 0 then
  local at, fill = now * 1000 + time[2] % 1000, most * interval
  full = math.max(tonumber(found[own + 2]) or 0, at)
  if full > at + fill + interval then
    full = at + fill - interval
  end
  full = full + interval
  if full > at + fill then
    wait = full - at - fill
    full = nil
  end
end

local refused = false
if ARGV[rest + 7] ~= '1' then
  if wait > 0 then
    local reply = answer(THROTTLED, found, FOUND)
    reply[#reply + 1] = wait
    return reply
  end
  for i = 1, tonumber(ARGV[7]) do
    local requests, used = tonumber(ARGV[rest + 8 + i]), FOUND + 2 * i - 2
    if requests >= 0 then
      refused = refused or (found[used] or 0) + (found[used + 1] or 0) >= requests + (granted and granted[i] or 0)
    end
  end
end
if refused then
  if full then
    call('HSET', key, 'user', ARGV[2], ARGV[rest + 2], text(full))
    live(full / 1000)
  end
  return answer(REFUSED, found, FOUND)
end

local expiry = now + ARGV[rest + 3]
local lease = text(expiry) .. ' ' .. ARGV[rest + 4]
if full then
  call('HSET', key, 'user', ARGV[2], 'claimed', ARGV[rest + 8], ARGV[rest], lease, ARGV[rest + 2], text(full))
else
  call('HSET', key, 'user', ARGV[2], 'claimed', ARGV[rest + 8], ARGV[rest], lease)
end
hold(lease, '1')
expire(expiry, full and math.max(expiry, full / 1000) or expiry)
return answer(wait > 0 and EXHAUSTED or OK, found, FOUND)
