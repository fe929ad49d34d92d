-- Ends reservations of one user: counts them or gives them back. Sent twice, it
-- does so once. A reservation whose lease has run out can still be counted.
--
-- That one was settled is remembered by a marker, which stays until the gateway
-- deletes it because it knows that no call will come again. One that died, or got
-- no answer, does not: then the marker of a count stays as long as the count
-- itself, since a gateway may send it again after an outage of any length.
--
--   ARGV[rest]      e, the number of reservations, 1 or more; e times:
--     lease/ID      with the reservation's id
--     done/ID
--     count         1 to count it, 0 to give it back
--     endpoint      its
--     r             the number of windows in which it was admitted; r times:
--       id          a window, which need not hold any more
--       retain      when its counts may be deleted; in the past: not counted
--
-- Codes: OK, OUTDATED (the reservations are settled all the same), UNHELD (as OK, and
-- one was counted that was not held any more).

local unheld = false

-- settle takes the reservation that begins at ARGV[at], with the values of its first two
-- fields, and returns where the next one does.
local function settle(at, lease, done)
  local after = at + 5 + 2 * ARGV[at + 4]
  if done then
    return after
  end
  if lease then
    -- First: a Redis without memory refuses to count, but not after this.
    call('HDEL', key, ARGV[at])
    hold(lease, '-1')
  end
  local marker, first = now + GRACE, nil
  if ARGV[at + 2] == '1' then
    changed = true
    unheld = unheld or not lease
    for i = at + 5, after - 2, 2 do
      local retain, used = tonumber(ARGV[i + 1]), 'used/' .. ARGV[i]
      if retain > now then
        call('HINCRBY', key, used .. '/' .. ARGV[at + 3], '1')
        if call('HINCRBY', key, used, '1') == 1 then
          call('HSETNX', key, 'retain/' .. ARGV[i], text(retain))
        end
        first, marker = math.min(first or retain, retain), math.max(marker, retain)
      end
    end
  end
  call('HSET', key, 'user', ARGV[2], ARGV[at + 1], text(marker))
  expire(first or marker, marker)
  return after
end

local at = rest + 1
local found = look(ARGV[at], ARGV[at + 1])
at = settle(at, found[FOUND], found[FOUND + 1])
for _ = 2, tonumber(ARGV[rest]) do
  found = call('HMGET', key, ARGV[at], ARGV[at + 1])
  at = settle(at, found[1], found[2])
end

if outdated then
  return mismatch()
end
local counts = rest > 8 and call('HMGET', key, unpack(ARGV, 8, rest - 1)) or {}
return answer(unheld and UNHELD or OK, counts, 1)
