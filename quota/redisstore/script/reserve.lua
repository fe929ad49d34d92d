-- Holds one unit in every window of a plan, or changes no count and no hold. Sent twice, it
-- holds once. Its own arguments (reserve.go builds them):
--
--   ARGV[rest]      lease/ID, with the reservation's id
--   ARGV[rest + 1]  done/ID
--   ARGV[rest + 2]  attempts/N/I
--   ARGV[rest + 3]  how long the lease lasts, in ms, 1 or more
--   ARGV[rest + 4]  what it holds: "E W W ...": the endpoint, then the id of each window
--   ARGV[rest + 5]  N, the attempts that the user may make at once, 1 or more; 0: no bound
--   ARGV[rest + 6]  I, the time in which one of them comes back, in µs, 1 or more; 0 without
--                   a bound
--   ARGV[rest + 7]  1: observe only: neither limits nor attempts refuse the request; or 0
--   ARGV[rest + 8]  the name of the plan that the user's token claims, for the field claimed
--   ARGV[rest + 8 + i], i from 1 to l: requests that limit i allows without grants, 0 or
--                   more; -1: it does not apply to the endpoint
--
-- Codes:
--
--   OK         admitted
--   REFUSED    a limit is reached
--   OUTDATED
--   SETTLED    the id was committed or released before; nothing is held
--   HELD       the id is held already
--   THROTTLED  no attempt is left; the reply ends with one more number: the time until there
--              is one, in µs
--   EXHAUSTED  admitted as with OK, because the request is only observed, but no attempt is
--              left
--
-- The counts are those before the call.

local found = read_fields(unpack(ARGV, 8, rest + 2))
if outdated then
  return reply_outdated()
end
local own = FOUND + ARGV[6]
if found[own + 1] then
  return reply_with(SETTLED, found, FOUND)
end
if found[own] then
  return reply_with(HELD, found, FOUND)
end

-- Takes one attempt, or finds the time until there is one. This is AttemptLimit.TakeToken of package
-- quota. In µs all numbers stay below 2^53.
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
    local reply = reply_with(THROTTLED, found, FOUND)
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
    call('HSET', key, 'user', ARGV[2], ARGV[rest + 2], format_time(full))
    keep_key_until(full / 1000)
  end
  return reply_with(REFUSED, found, FOUND)
end

local expiry = now + ARGV[rest + 3]
local lease = format_time(expiry) .. ' ' .. ARGV[rest + 4]
if full then
  call('HSET', key, 'user', ARGV[2], 'claimed', ARGV[rest + 8], ARGV[rest], lease, ARGV[rest + 2], format_time(full))
else
  call('HSET', key, 'user', ARGV[2], 'claimed', ARGV[rest + 8], ARGV[rest], lease)
end
add_held(lease, '1')
note_ends(expiry, full and math.max(expiry, full / 1000) or expiry)
return reply_with(wait > 0 and EXHAUSTED or OK, found, FOUND)
