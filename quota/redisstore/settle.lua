-- Ends a reservation: counts it or gives it back. Sent twice, it does so once.
-- A reservation whose lease has run out can still be counted.
--
--   ARGV[rest]      the reservation's id
--   ARGV[rest + 1]  1 to count it, 0 to give it back
--   ARGV[rest + 2]  its endpoint
--   ARGV[rest + 3]  r, the number of windows in which it was admitted; r times:
--     id            a window, which need not hold any more
--     retain        when its counts may be deleted; in the past: not counted
--
-- Codes: OK, TURNED (the reservation is settled all the same).

sweep()

local id, endpoint = ARGV[rest], ARGV[rest + 2]
local known = redis.call('HMGET', key, 'lease/' .. id, 'done/' .. id)
if not known[2] then
  if known[1] then
    redis.call('HDEL', key, 'lease/' .. id)
    hold(known[1], -1)
  end
  local marker = now + MARKER_LIFE
  local first, last = marker, marker
  if ARGV[rest + 1] == '1' then
    for i = rest + 4, rest + 2 + 2 * ARGV[rest + 3], 2 do
      local window, retain = ARGV[i], tonumber(ARGV[i + 1])
      if retain > now then
        redis.call('HINCRBY', key, 'used/' .. window .. '/' .. endpoint, 1)
        redis.call('HINCRBY', key, 'used/' .. window, 1)
        redis.call('HSETNX', key, 'retain/' .. window, text(retain))
        first, last = math.min(first, retain), math.max(last, retain)
      end
    end
  end
  redis.call('HSET', key, 'user', ARGV[2], 'done/' .. id, text(marker))
  expire(first, last)
end

if turned then
  return { TURNED, now }
end
return answer(OK, counts())
