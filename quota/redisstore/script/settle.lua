-- Settles reservations of one user: counts each of them, or gives it back. Sent twice, it does
-- so once. A reservation whose lease has run out can still be counted.
--
-- A marker records that a reservation is settled. It stays until the gateway deletes it
-- because no call for the reservation can come again. A gateway that died, or got no reply,
-- does not delete it. Then the marker of a count stays as long as the count itself, because a
-- gateway may send it again after an outage of any length; but at most for ten years, because the
-- window "ever" has no end.
--
-- Its own arguments (settle.go builds them):
--
--   ARGV[rest]        n, the number of reservations, 1 or more; then n times:
--     lease/ID        with the reservation's id
--     done/ID
--     extra           count it, and units that exceed its 1 by so much: -1 to 10^9 - 1; -: give
--                     it back
--     endpoint        its endpoint
--     w               the number of windows in which it was admitted, 0 or more; then w times:
--       id            the id of a window, which may have ended
--       retain        when its counts end, in ms; in the past: it is not counted there
--     p               only with a pool: the number of windows of the pool; then p times the same
--
-- The marker in the user's hash stands for both hashes: they are settled together.
--
-- Codes:
--
--   OK
--   UNHELD    as OK, and one was counted that was not held any more
--   OUTDATED  the reservations are settled all the same

local LONGEST = 315360000000 -- ms, ten years

local unheld = false

-- Settles, in one hash, the reservation that begins at ARGV[at] and is not settled yet. lease is the
-- value of its first field there, and ARGV[w] the number of its windows there. The marker stays until
-- a time or, if that is later, as long as the counts: settle returns until when.
local function settle(at, w, lease, marker)
  if lease then
    -- This comes first: a Redis that is out of memory refuses to count, but not after this.
    call('HDEL', key, ARGV[at])
    add_held(lease, '-1', '-')
  end
  local first, extra = nil, ARGV[at + 2]
  if extra ~= '-' then
    changed = true
    for i = w + 1, w + 2 * ARGV[w], 2 do
      local retain, used = tonumber(ARGV[i + 1]), 'used/' .. ARGV[i]
      if retain > now then
        call('HINCRBY', key, used .. '/' .. ARGV[at + 3], '1')
        if extra ~= '0' then
          call('HINCRBY', key, 'extra/' .. ARGV[i], extra)
          call('HINCRBY', key, 'extra/' .. ARGV[i] .. '/' .. ARGV[at + 3], extra)
        end
        if call('HINCRBY', key, used, '1') == 1 then
          call('HSETNX', key, 'retain/' .. ARGV[i], format_time(retain))
        end
        first, marker = math.min(first or retain, retain), math.max(marker, retain)
      end
    end
  end
  if key ~= pool then
    unheld = unheld or extra ~= '-' and not lease
    local last = marker
    if marker > now + LONGEST then
      marker = now + LONGEST
      first = math.min(first or marker, marker)
    end
    call('HSET', key, 'user', ARGV[2], ARGV[at + 1], format_time(marker))
    note_ends(first or marker, last)
  elseif first then
    call('HSET', key, 'user', ARGV[block])
    note_ends(first, marker)
  end
  return marker
end

local at = rest + 1
local found = read_fields(ARGV[at], ARGV[at + 1])
local lease, done = found[FOUND], found[FOUND + 1]
if pool then
  read_pool()
end
for n = 1, tonumber(ARGV[rest]) do
  if n > 1 then
    found = call('HMGET', key, ARGV[at], ARGV[at + 1])
    lease, done = found[1], found[2]
  end
  local w, marker = at + 4, now + GRACE
  local after = w + 1 + 2 * ARGV[w]
  if pool then
    if not done and ARGV[after] ~= '0' then
      switch()
      marker = settle(at, after, call('HGET', key, ARGV[at]), marker)
      switch()
    end
    after = after + 1 + 2 * ARGV[after]
  end
  if not done then
    settle(at, w, lease, marker)
  end
  at = after
end

if outdated then
  return reply_outdated()
end
local counts = rest > 8 and call('HMGET', key, unpack(ARGV, 8, rest - 1)) or {}
if pool then
  read_pool(counts, 1)
end
return reply_with(unheld and UNHELD or OK, counts, 1)
