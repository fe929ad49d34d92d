-- Ends reservations of one user: counts them or gives them back. Sent twice, it
-- does so once. A reservation whose lease has run out can still be counted.
--
-- That one was settled is remembered by a marker, which stays until the gateway
-- deletes it because it knows that no call will come again. One that died, or got
-- no answer, does not: then the marker of a count stays as long as the count
-- itself, since a gateway may send it again after an outage of any length.
--
--   ARGV[rest]      e, the number of reservations, 1 or more; e times:
--     id            the reservation's
--     count         1 to count it, 0 to give it back
--     endpoint      its
--     r             the number of windows in which it was admitted; r times:
--       id          a window, which need not hold any more
--       retain      when its counts may be deleted; in the past: not counted
--
-- Codes: OK, OUTDATED (the reservations are settled all the same), UNHELD (as OK, and
-- one was counted that was not held any more).

sweep()

local unheld = false

-- settle takes the reservation that begins at ARGV[at] and returns where the next
-- one does.
local function settle(at)
  local id, count, endpoint = ARGV[at], ARGV[at + 1] == '1', ARGV[at + 2]
  local after = at + 4 + 2 * ARGV[at + 3]
  local known = redis.call('HMGET', key, 'lease/' .. id, 'done/' .. id)
  if known[2] then
    return after
  end
  if known[1] then
    redis.call('HDEL', key, 'lease/' .. id)
    hold(known[1], -1)
  end
  local marker, first = now + GRACE, nil
  if count then
    changed = true
    unheld = unheld or not known[1]
    for i = at + 4, after - 2, 2 do
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
  return after
end

local at = rest + 1
for _ = 1, tonumber(ARGV[rest]) do
  at = settle(at)
end

if outdated then
  announce()
  return { OUTDATED, now, expired, override }
end
return answer(unheld and UNHELD or OK, counts())
