#!lua name=LIBRARY
-- The functions that serve plain requests. Unlike a script, a function of Redis can keep what it has computed for the next
-- call. So everything that is the same for many requests comes as one argument, their terms. It is decoded once.
--
-- They work on the hash KEYS[1] of a user who has no pool, and for whom the gateway assumes no override and no
-- terms. Their arguments are:
--
--   ARGV[1]   offset to add to Redis's clock, in ms, any whole number; 0 except in tests
--   ARGV[2]   arguments of reserve.lua or settle.lua, encoded as they are in a command, "$LENGTH\r\nTEXT\r\n" each: ARGV[4] to ARGV[7 + m]
--             of common.lua; then, to reserve, all from ARGV[rest + 2] on, or, to settle:
--               indexes   the last of settle.lua's own arguments
--               n         0 or more; then n times i and C: a threshold is reached when field i of counts reaches C
--               endpoint  and w and what follows, to the last argument of the reservation
--   ARGV[3]   lease/ID, with the reservation's id
--   ARGV[4]   done/ID
--   ARGV[5]...   only to settle: done/ID of others, for which no call can come again: markers to delete
--
-- They reply as the scripts do, or {RARE, now, 0}: then they have done nothing, and the request is one for the script.

local OK, REFUSED, THROTTLED, RARE = 0, 1, 5, 10
local MOST = 2147483647 -- what %d can make a text of in any Redis
local KEPT = 500 -- terms, of some KiB each

-- Redis has these once a function is called, but not while it loads the library.
local call, byte, format = nil, nil, nil

local kept, number_kept = {}, 0 -- by text

-- Redis keeps a hash of few short fields as a list, and looks for each field from its beginning. As a table, it takes two to three
-- times the memory, and a request less time. A field too long for a list makes a table of the hash of a user who is
-- counted BUSY times within PERIOD, in ms.
local BUSY, PERIOD, MOST_SEEN = 50, 10000, 10000
local LONG = '65 bytes, one more than a list takes by default: this is a table.'
local seen, number_seen, seen_until = {}, 0, 0 -- how often a key was counted in this period, at most for so many keys

local function is_busy(key, now)
  if now >= seen_until or now < seen_until - PERIOD then -- the clock may jump
    seen, number_seen, seen_until = {}, 0, now + PERIOD
  end
  local times = seen[key]
  if times then
    seen[key] = times + 1
    return times == BUSY
  end
  if number_seen < MOST_SEEN then
    seen[key], number_seen = 1, number_seen + 1
  end
end

-- Returns the terms of a text, which decode makes of its items. What is kept only saves time: it can be lost at any moment.
local function terms_of(text, decode)
  call, byte, format = redis.call, string.byte, string.format
  local items, at = {}, 1
  while at <= #text do
    local size, start = string.match(text, '^%$(%d+)\r\n()', at)
    items[#items + 1] = string.sub(text, start, start + size - 1)
    at = start + size + 2
  end
  local terms = { from = items[1] + 0, till = items[2] + 0, m = items[3] + 0, l = items[4] + 0, names = { unpack(items, 5, 4 + items[3]) } }
  decode(terms, items, 5 + terms.m)
  if number_kept == KEPT then
    kept, number_kept = {}, 0
  end
  kept[text], number_kept = terms, number_kept + 1
  return terms
end

local function terms_to_reserve(terms, items, at)
  terms.bucket_name, terms.life, terms.holds = items[at], items[at + 1] + 0, items[at + 2]
  terms.most, terms.interval, terms.claimed = items[at + 3] + 0, items[at + 4] + 0, items[at + 5]
  terms.indexes, terms.allowances = { byte(items[at + 7], 1, -1) }, {}
  for i = 1, terms.l do
    terms.allowances[i] = items[at + 7 + i] + 0
  end
end

local function terms_to_settle(terms, items, at)
  terms.indexes = { byte(items[at], 1, -1) }
  for i = at + 2, at + 2 * items[at + 1], 2 do
    local index = items[i] + 0
    terms.crossing = terms.crossing or {}
    terms.crossing[index] = terms.crossing[index] or {}
    terms.crossing[index][items[i + 1]] = true
  end
  at = at + 2 + 2 * items[at + 1]
  terms.windows, terms.held_in, terms.marker = items[at + 1] + 0, ' ' .. items[at], 0
  for i = at + 2, #items, 2 do -- the windows; then the day and the hour
    local ends = items[i + 1] + 0
    if i < at + 2 + 2 * terms.windows then
      terms.held_in = terms.held_in .. ' ' .. items[i]
    end
    terms.first = math.min(terms.first or ends, ends)
    if ends > terms.marker then
      terms.marker, terms.marker_text = ends, items[i + 1]
    end
  end
  terms.is_plain = terms.first ~= nil
end

-- Returns Redis's clock with an offset, in ms, and the µs of its second.
local function clock(offset)
  local time = call('TIME')
  local micros = time[2] + 0
  local now = time[1] * 1000 + (micros - micros % 1000) / 1000
  if offset ~= '0' then
    now = now + offset
  end
  return now, micros
end

local function reserve(keys, argv)
  local key, terms = keys[1], kept[argv[2]] or terms_of(argv[2], terms_to_reserve)
  local now, micros = clock(argv[1])
  local from, till, m, l, names, indexes, allowances = terms.from, terms.till, terms.m, terms.l, terms.names, terms.indexes, terms.allowances
  local bucket_name, life, holds, most, interval, claimed = terms.bucket_name, terms.life, terms.holds, terms.most, terms.interval, terms.claimed
  local is_plain, name, allowance, lease_name, own, before, bucket, read = true, 0, 0, argv[3], 4, 5, nil, nil
  if most > 0 then
    bucket, own, before = 4, 5, 6
    read = call('HMGET', key, 'sweep', 'plan', 'grants', bucket_name, lease_name, argv[4], unpack(names, 1, m))
  else
    read = call('HMGET', key, 'sweep', 'plan', 'grants', lease_name, argv[4], unpack(names, 1, m))
  end
PLAINRESERVE
  return { RARE, now, 0 }
end

local function settle(keys, argv)
  local key, terms = keys[1], kept[argv[2]] or terms_of(argv[2], terms_to_settle)
  local now = clock(argv[1])
  local from, till, m, names, indexes, windows, held_in = terms.from, terms.till, terms.m, terms.names, terms.indexes, terms.windows, terms.held_in
  local first, marker, marker_text, is_plain = terms.first, terms.marker, terms.marker_text, terms.is_plain
  local name, lease_name, marker_name, own, before, forgotten, last_forgotten = 0, argv[3], argv[4], 4, 5, 5, #argv
  local long, crossing = is_busy(key, now) and LONG, terms.crossing
  local found = call('HMGET', key, 'sweep', 'plan', 'grants', lease_name, marker_name, unpack(names, 1, m))
PLAINSETTLE
  return { RARE, now, 0 }
end

redis.register_function('LIBRARY_reserve', reserve)
redis.register_function('LIBRARY_settle', settle)
