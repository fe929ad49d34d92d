-- Ends a reservation: counts it or gives it back. Sent twice, it does so once.
-- A reservation whose lease has run out can still be counted.
--
-- That it was settled is remembered by a marker, which stays until the gateway
-- deletes it because it knows that no call will come again. One that died, or got
-- no answer, does not: then the marker of a count stays as long as the count
-- itself, since a gateway may send it again after an outage of any length.
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
  local marker, first = now + GRACE, nil
  if ARGV[rest + 1] == '1' then
    for i = rest + 4, rest + 2 + 2 * ARGV[rest + 3], 2 do
      local window, retain = ARGV[i], tonumber(ARGV[i + 1])
      if retain > now then
        redis.call('HINCRBY', key, 'used/' .. window .. '/' .. endpoint, 1)
        redis.call('HINCRBY', key, 'used/' .. window, 1)
        redis.call('HSETNX', key, 'retain/' .. window, text(retain))
        first, marker = math.min(first or retain, retain), math.max(marker, retain)
      end
    end
  end
  redis.call('HSET', key, 'user', ARGV[2], 'done/' .. id, text(marker))
  expire(first or marker, marker)
end

if turned then
  return { TURNED, now }
end
return answer(OK, counts())
