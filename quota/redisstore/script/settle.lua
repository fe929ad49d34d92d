-- Settles reservations of one user: counts each of them, or gives it back. Sent twice, it does
-- so once. A reservation whose lease has run out can still be counted.
--
-- A request may be settled in two steps. The first counts it and leaves a rest of its units held. The
-- second settles this rest, and has the fields of the rest in place of those of the lease. If it comes
-- first, what it settles is taken from the lease, and the first step leaves no rest.
--
-- A marker records that a reservation is settled. It stays until the gateway deletes it
-- because no call for the reservation can come again. A gateway that died, or got no reply,
-- does not delete it. Then the marker of a count stays as long as the count itself, because a
-- gateway may send it again after an outage of any length; but at most for ten years, because the
-- window "ever" has no end. The marker of a rest stays as long as that of a count even if nothing of
-- it is charged, because the first step may be the one that is sent again.
--
-- Its own arguments (settle.go builds them):
--
--   ARGV[rest]...     once for each of 1 or more reservations:
--     lease/ID        with the reservation's id; in the second step rest/ID
--     done/ID         in the second step paid/ID
--     extra           count it, and units that exceed its 1 by so much: -1 to 10^9 - 1; -: give
--                     it back; "+EXTRA REST LIFE": count it likewise, and leave a rest of 1 to 10^9
--                     units for so many ms; in the second step "+UNITS REST": count 0 to REST units
--     endpoint        its endpoint
--     w               the number of windows in which it was admitted, 0 or more; then w times:
--       id            the id of a window, which may have ended
--       retain        when its counts end, in ms; in the past: it is not counted there
--     p               only with a pool: the number of windows of the pool; then p times the same
--     day/N/E         only with a history: the field of the day on which it counts; empty: none
--     ends            likewise: when the numbers of this day end, in ms; in the past: it is not counted there
--     bill/H/E        only with bills: the field of the hour in which it counts; empty: none
--     ends            likewise
--   then, f times, done/ID of another reservation, for which no call can come again: a marker to delete
--   ARGV[last_arg - 1]  f, 0 or more
--   ARGV[last_arg]    for plainsettle.lua, bytes: how many of the last fields of counts are not returned, and then for each
--                     window of the only reservation i and j: field i of counts is used/W, field j used/W/E; with a
--                     history that of day/N/E, and with bills that of bill/H/E; if the request holds more than 1 unit, those of
--                     extra/W and so on in the same order; then for each window again those of held/W and held/W/E, and for
--                     such a request those of heldextra/W and heldextra/W/E. Empty: all are returned, and it is not known which they are
--
-- The marker in the user's hash stands for both hashes: they are settled together.
--
-- With rests, rests.lua stands before this script. With a history, days.lua does, with bills hours.lua, and if plans
-- have thresholds crossings.lua; without one of them, a line that says so. How cautious the script is matters only
-- with thresholds:
--
--   2  it settles nothing if an assumption is wrong, or if the first reservation is not held any more: then the account
--      may be missing in the index of claims.lua
--   1  it settles nothing if an assumption is wrong: the thresholds may be others
--   0  it settles in any case
--
-- Codes; RECORDED and RECORDED_IN_POOL of crossings.lua may be added, and 400, NO_REST: one that was to leave a rest
-- leaves none, because it was given back before, or its rest is settled:
--
--   OK
--   UNHELD    as OK, and one was counted that was not held any more
--   OUTDATED  the reservations are settled all the same, unless the script is cautious

local LONGEST = 315360000000 -- ms, ten years
local NO_REST = 400

local unheld, no_rest = false, 0

-- Settles, in one hash, the reservation that begins at ARGV[at] and is not settled yet. held is the
-- value of its first field there, and ARGV[w] the number of its windows there. ARGV[day] is its day, and
-- ARGV[bill] its hour; nil: there is no history, and there are no bills. paid: its rest is settled.
-- rests is that of add_held. The marker stays until a time or, if that is later, as long as the counts:
-- settle returns until when.
local function settle(at, w, held, marker, paid, rests, day, bill)
  local first, extra, requests, units, life = nil, ARGV[at + 2], '1', nil, nil
  local is_rest = string.byte(ARGV[at]) == 114
  if string.byte(extra) == 43 then
    extra, units, life = string.match(extra, '^%+(%S+) (%d+) ?(%d*)$')
  end
  if is_rest then
    requests, held = nil, end_rest(string.sub(ARGV[at], 6), held, tonumber(units))
  elseif held then
    -- This comes first: a Redis that is out of memory refuses to count, but not after this.
    call('HDEL', key, ARGV[at])
    add_held(held, '-1', rests)
  end
  if extra ~= '-' then
    changed = true
    for i = w + 1, w + 2 * ARGV[w], 2 do
      local retain, used = ARGV[i + 1] + 0, 'used/' .. ARGV[i]
      if retain > now then
        if requests then
          call('HINCRBY', key, used .. '/' .. ARGV[at + 3], requests)
        end
        if extra ~= '0' then
          call('HINCRBY', key, 'extra/' .. ARGV[i], extra)
          call('HINCRBY', key, 'extra/' .. ARGV[i] .. '/' .. ARGV[at + 3], extra)
        end
        local is_first = extra ~= '0'
        if requests then
          is_first = call('HINCRBY', key, used, requests) == 1
        end
        if is_first then
          call('HSETNX', key, 'retain/' .. ARGV[i], ARGV[i + 1])
        end
        first, marker = math.min(first or retain, retain), math.max(marker, retain)
        if note_added then
          note_added(ARGV[i], ARGV[at + 3], requests, extra)
        end
      end
    end
    if day and ARGV[day] ~= '' then
      local ends = ARGV[day + 1] + 0
      if ends > now then
        if count_both(ARGV[day], requests, extra) then
          note_day(ARGV[day], ends)
        end
        first, marker = math.min(first or ends, ends), math.max(marker, ends)
      end
    end
    if bill and ARGV[bill] ~= '' then
      local ends = ARGV[bill + 1] + 0
      if ends > now then
        if count_both(ARGV[bill], requests, extra) then
          note_hour(ARGV[bill], ends)
        end
        first, marker = math.min(first or ends, ends), math.max(marker, ends)
      end
    end
  end
  local last = marker
  if units and not is_rest and not paid then
    local id = string.sub(ARGV[at], 7)
    local ends = now + life
    add_rest(id, format_time(ends) .. '+' .. units .. ' ' .. held_in(at, w)) -- keep.lua may have taken it again
    first, last = math.min(first or ends, ends), math.max(last, ends)
  end
  if key ~= pool then
    unheld = unheld or extra ~= '-' and not held and (requests or extra ~= '0')
    if marker > now + LONGEST then
      marker = now + LONGEST
      first = math.min(first or marker, marker)
    end
    call('HSET', key, 'user', ARGV[2], ARGV[at + 1], format_time(marker))
    note_ends(first or marker, last)
  elseif first then
    call('HSET', key, 'user', ARGV[block])
    note_ends(first, last)
  end
  return marker
end

local at = rest
unreturned = string.byte(ARGV[last_arg]) or 0
-- A request that holds more than 1 unit is mostly charged more than 1, or leaves a rest: then what is
-- needed of rests is read at the same time. Whatever is not read is nil.
local found
if ARGV[at + 2] == '0' or ARGV[at + 2] == '-' then
  found = read_fields(ARGV[at], ARGV[at + 1])
else
  found = read_fields(ARGV[at], ARGV[at + 1], 'rests', 'paid/' .. string.sub(ARGV[at], 7))
end
local lease, done, rests, paid = found[FOUND], found[FOUND + 1], found[FOUND + 2], found[FOUND + 3]
if pool then
  read_pool()
end
if caution and caution ~= '0' and (outdated or caution == '2' and not lease and not done) then
  return reply_outdated()
end
local forgotten = last_arg - 1 - ARGV[last_arg - 1]
while at < forgotten do
  if at > rest then
    found = call('HMGET', key, ARGV[at], ARGV[at + 1])
    lease, done, rests, paid = found[1], found[2], nil, nil
  end
  local w, marker = at + 4, now + GRACE
  local after = w + 1 + 2 * ARGV[w]
  if string.byte(ARGV[at + 2]) == 43 and string.byte(ARGV[at]) == 108 then
    local id = string.sub(ARGV[at], 7)
    if paid == nil then
      paid = call('HGET', key, 'paid/' .. id)
    end
    -- The marker of what was given back ends within GRACE. So does that of a count only if nothing is counted there any
    -- more. A rest that has ended by itself, or was lost, is left: its gateway takes it again.
    if paid or done and time_of(done) <= now + GRACE and not call('HGET', key, 'rest/' .. id) then
      no_rest = NO_REST
    end
  end
  local of_pool, day, bill = after, nil, nil
  if pool then
    after = after + 1 + 2 * ARGV[after]
  end
  if note_day then
    day, after = after, after + 2
  end
  if note_hour then
    bill, after = after, after + 2
  end
  if pool and not done and ARGV[of_pool] ~= '0' then
    switch()
    marker = settle(at, of_pool, call('HGET', key, ARGV[at]), marker, paid)
    switch()
  end
  if not done then
    settle(at, w, lease, marker, paid, rests, day, bill)
  end
  at = after
end
if forgotten < last_arg - 1 then
  call('HDEL', key, unpack(ARGV, forgotten, last_arg - 2))
end

if outdated and not record_crossings then
  return reply_outdated()
end
local counts = rest > 8 and call('HMGET', key, unpack(ARGV, 8, rest - 1)) or {}
if pool then
  read_pool(counts, 1)
end
local crossings = record_crossings and record_crossings(counts) or 0
local reply = outdated and reply_outdated() or reply_with(unheld and UNHELD or OK, counts, 1)
reply[1] = reply[1] + crossings + no_rest
return reply
