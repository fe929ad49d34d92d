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
--   ARGV[rest]...     n times, once for each reservation:
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
--
--   ARGV[last_arg - 1]  n, the number of reservations, 1 or more
--   ARGV[last_arg]    bytes: how many of the last fields of counts are not returned, and then for each window of the
--                     only reservation four numbers i: fields i of counts are used/W, used/W/E, held/W and
--                     held/W/E. Empty: all are returned, and it is not known which they are
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
local n, where = ARGV[last_arg - 1], ARGV[last_arg]
unreturned = string.byte(where) or 0
local indexes = where ~= '' and { string.byte(where, 2, -1) } or nil
local fields, last_value = { nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil }, 0 -- what is to be set at the end, and the index of the last
local found -- what was read; with indexes it has the counts, and what this call has made of them
local reread = not indexes -- found does not have the counts as they are


-- Deletes the lease of the reservation that begins at ARGV[at], and takes it from what is held.
local function end_lease(at, w, held, rests)
  local gone, last_gone = { ARGV[at], nil, nil, nil, nil }, 1
  if indexes then
    local expected = ' ' .. ARGV[at + 3]
    for i = w + 1, w + 2 * ARGV[w], 2 do
      expected = expected .. ' ' .. ARGV[i]
    end
    if string.sub(held, 14) ~= expected then -- it holds units, or in other windows
      indexes, reread = nil, true
    end
  end
  for i = 3, indexes and #indexes or 0, 4 do
    for j = i, i + 1 do
      local index = indexes[j]
      local left = (found[FOUND - 1 + index] or 0) - 1
      if left > 0 then
        found[FOUND - 1 + index] = left
        fields[last_value + 1], fields[last_value + 2], last_value = ARGV[7 + index], left, last_value + 2
      else
        found[FOUND - 1 + index] = false
        gone[last_gone + 1], last_gone = ARGV[7 + index], last_gone + 1
      end
    end
  end
  -- This comes first: a Redis that is out of memory refuses to count, but not after this.
  call('HDEL', key, unpack(gone, 1, last_gone))
  if not indexes then
    add_held(held, '-1', rests)
  end
  changed = true
end

-- Settles, in one hash, the reservation that begins at ARGV[at] and is not settled yet. held is the
-- value of its first field there, and ARGV[w] the number of its windows there. ARGV[day] is its day, and
-- ARGV[bill] its hour; nil: there is no history, and there are no bills. paid: its rest is settled.
-- rests is that of add_held. The marker stays until a time or, if that is later, as long as the counts:
-- settle returns until when.
local function settle(at, w, held, marker, paid, rests, day, bill)
  local first, extra, requests, units, life = nil, ARGV[at + 2], '1', nil, nil
  local is_rest = string.byte(ARGV[at]) == 114
  local is_kept = false -- the key is known to live as long as the counts, since something was counted in each window
  local marker_text = nil -- of the marker; nil: it is not known
  if string.byte(extra) == 43 then
    extra, units, life = string.match(extra, '^%+(%S+) (%d+) ?(%d*)$')
  end
  if is_rest then
    requests, held = nil, end_rest(string.sub(ARGV[at], 6), held, units + 0)
  elseif held then
    end_lease(at, w, held, rests)
  end
  if extra ~= '-' then
    changed = true
    is_kept = not units and ARGV[w] ~= '0'
    for i = w + 1, w + 2 * ARGV[w], 2 do
      local retain, used = ARGV[i + 1] + 0, 'used/' .. ARGV[i]
      if retain > now then
        local is_first = extra ~= '0'
        if extra ~= '0' then
          call('HINCRBY', key, 'extra/' .. ARGV[i], extra)
          call('HINCRBY', key, 'extra/' .. ARGV[i] .. '/' .. ARGV[at + 3], extra)
          reread = true
        end
        if requests and indexes then
          local nth = 2 * (i - w) - 1
          for j = nth, nth + 1 do
            local sum = (found[FOUND - 1 + indexes[j]] or 0) + 1
            found[FOUND - 1 + indexes[j]] = sum
            fields[last_value + 1], fields[last_value + 2], last_value = ARGV[7 + indexes[j]], sum, last_value + 2
          end
          is_first = found[FOUND - 1 + indexes[nth]] == 1
        elseif requests then
          call('HINCRBY', key, used .. '/' .. ARGV[at + 3], requests)
          is_first = call('HINCRBY', key, used, requests) == 1
        end
        if is_first then
          call('HSETNX', key, 'retain/' .. ARGV[i], ARGV[i + 1])
          is_kept = false
        end
        first = math.min(first or retain, retain)
        if retain > marker then
          marker, marker_text = retain, ARGV[i + 1]
        end
        if note_added then
          note_added(ARGV[i], ARGV[at + 3], requests, extra)
        end
      else
        is_kept = false
      end
    end
    if day and ARGV[day] ~= '' then
      local ends = ARGV[day + 1] + 0
      if ends > now then
        if count_both(ARGV[day], requests, extra) then
          note_day(ARGV[day], ends)
          is_kept = false
        end
        first = math.min(first or ends, ends)
        if ends > marker then
          marker, marker_text = ends, ARGV[day + 1]
        end
      end
    end
    if bill and ARGV[bill] ~= '' then
      local ends = ARGV[bill + 1] + 0
      if ends > now then
        if count_both(ARGV[bill], requests, extra) then
          note_hour(ARGV[bill], ends)
          is_kept = false
        end
        first = math.min(first or ends, ends)
        if ends > marker then
          marker, marker_text = ends, ARGV[bill + 1]
        end
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
      marker, marker_text = now + LONGEST, nil
      first = math.min(first or marker, marker)
    end
    fields[last_value + 1], fields[last_value + 2], last_value = ARGV[at + 1], marker_text or format_time(marker), last_value + 2
    if not held then -- with a lease, the user's id is there
      fields[last_value + 1], fields[last_value + 2], last_value = 'user', ARGV[2], last_value + 2
    end
    call('HSET', key, unpack(fields, 1, last_value))
    last_value = 0
    note_ends(first or marker, not is_kept and last)
  elseif first then
    call('HSET', key, 'user', ARGV[block])
    note_ends(first, not is_kept and last)
  end
  return marker
end

local at = rest
-- A request that holds more than 1 unit is mostly charged more than 1, or leaves a rest: then what is
-- needed of rests is read at the same time. Whatever is not read is nil.
local from = indexes and 8 or rest
if ARGV[at + 2] == '0' or ARGV[at + 2] == '-' then
  found = read_fields(unpack(ARGV, from, at + 1))
else
  local names = { unpack(ARGV, from, at + 1) }
  names[#names + 1] = 'rests'
  names[#names + 1] = 'paid/' .. string.sub(ARGV[at], 7)
  found = read_fields(unpack(names))
end
local own = FOUND + rest - from
local lease, done, rests, paid = found[own], found[own + 1], found[own + 2], found[own + 3]
if pool then
  read_pool()
end
if caution and caution ~= '0' and (outdated or caution == '2' and not lease and not done) then
  return reply_outdated()
end
for i = 1, n + 0 do
  if i > 1 then
    local known = call('HMGET', key, ARGV[at], ARGV[at + 1])
    lease, done, rests, paid = known[1], known[2], nil, nil
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

if outdated and not record_crossings then
  return reply_outdated()
end
local counts, first = found, FOUND
if reread then
  counts, first = rest > 8 and call('HMGET', key, unpack(ARGV, 8, rest - 1)) or {}, 1
elseif record_crossings then
  counts, first = { unpack(found, FOUND, FOUND + rest - 9) }, 1
end
if pool then
  read_pool(counts, 1)
end
local crossings = record_crossings and record_crossings(counts) or 0
local reply = outdated and reply_outdated() or reply_with(unheld and UNHELD or OK, counts, first)
reply[1] = reply[1] + crossings + no_rest
return reply
