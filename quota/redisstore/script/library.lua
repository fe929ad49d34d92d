#!lua name=LIBRARY
-- The function that serves plain requests. Unlike a script, a function of Redis can keep what it has computed for the next
-- call. So everything that is the same for many requests comes as one argument, their terms. It is decoded once.
--
-- One call of the function serves several requests, see FCallEncoder of package resp. Each works on the hash of a user
-- who has no pool, and for whom the gateway assumes no override and no terms. The arguments are:
--
--   shared    offset to add to Redis's clock, in ms, any whole number; 0 except in tests
--   terms     arguments of reserve.lua or settle.lua, encoded as they are in a command, "$LENGTH\r\nTEXT\r\n" each: "reserve",
--             "settle", or "rest", which settles a rest; ARGV[4] to ARGV[7 + m] of common.lua; then, to reserve, all from ARGV[rest + 2] on, or, otherwise:
--               indexes   the last of settle.lua's own arguments
--               n         0 or more; then n times i and C: a threshold is reached when field i of counts reaches C
--               endpoint  and w and what follows, to the last argument of the reservation
--   own       lease/ID, with the reservation's id, and done/ID; or rest/ID and paid/ID; then, unless it reserves, extra as in
--             settle.lua if the request holds units beyond its 1, and done/ID of others, for which no call can come again:
--             markers to delete
--
-- The reply to each request is that of the script, or {RARE, now, 0}: then nothing was done, and the request is one for the
-- script. A request that fails does no harm to those that are served with it.

local OK, REFUSED, THROTTLED, RARE = 0, 1, 5, 10
local GRACE = 600000 -- ms; longer than a call can be on its way
local MOST = 2147483647 -- what %d can make a text of in any Redis
local MOST_UNITS = 9007199254740991 -- what a number of Lua is exact up to
local OVERDUE = 3600000 -- ms; how long what has ended may wait to be deleted
local FOUND = 4 -- the index of the first field of counts in what is read
local KEPT = 500 -- terms, of some KiB each

-- Redis has these once a function is called, but not while it loads the library.
local call, byte, sub, format, unpack, tonumber, pcall = nil, nil, nil, nil, nil, nil, nil

local kept, number_kept = {}, 0 -- what new_reserve, new_settle and new_rest have returned, by the text of the terms

-- The texts of numbers up to 9,999, each with that of the next number, or of the one before. Working one out takes as long as
-- reading two fields.
local next_of, previous_of = {}, {}

-- Redis keeps a hash of few short fields as a list, and looks for each field from its beginning. As a table, it takes two to three
-- times the memory, and a request less time. A field too long for a list makes a table of the hash of a user who is
-- counted BUSY times within PERIOD, in ms.
local BUSY, PERIOD = 50, 10000
local LONG = '65 bytes, one more than a list takes by default: this is a table.'

-- What is known of at most MOST_SEEN users, by key. It only saves time:
--
--   times, since   how often the user was counted, and since when, for at most PERIOD
--   channel        the one on which changes of the user are announced
--   sweep_text, sweep   the field sweep when it was last read, and as a number
local MOST_SEEN = 10000
local seen, number_seen = {}, 0

local function see(key)
  if number_seen == MOST_SEEN then
    seen, number_seen = {}, 0
  end
  seen[key], number_seen = { times = 0, since = 0, channel = key .. ':changes', sweep_text = '', sweep = 0 }, number_seen + 1
  return seen[key]
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

-- Returns what HMGET finds of a user, and what is known of them. reading has the arguments of HMGET but for the key.
local function read_user(key, reading, last_read)
  reading[1] = key
  local found, user = call('HMGET', unpack(reading, 1, last_read)), seen[key] or see(key)
  if found[1] ~= user.sweep_text then
    user.sweep_text, user.sweep = found[1], tonumber(found[1] or 0)
  end
  return found, user
end

-- The functions that new_reserve, new_settle and new_rest return use the same tables in each call, and overwrite what differs. In
-- reading and fields they find the names that are always the same.

local function new_reserve(items, from, till, m, at)
  local life, holds, most, interval = items[at + 1] + 0, items[at + 2], items[at + 3] + 0, items[at + 4] + 0
  local own, is_plain, indexes, allowances, first_limit, last_limit = FOUND + m, true, { byte(items[at + 7], 1, -1) }, {}, 1, items[4] + 0
  local more, requests_of = items[at + 6] == '' and 0 or string.match(items[at + 6], '^0 (%d+) 0 ') + 0, nil
  local names, name, half = items, 4, more > 0 and (#indexes - 1) / 2 or #indexes - 1
  for i = 1, last_limit do
    allowances[i] = items[at + 7 + i] + 0
  end
  for i = at + 8 + last_limit, #items, 2 do
    requests_of = requests_of or {}
    requests_of[items[i] + 0] = FOUND + 2 * items[i + 1] - 2
  end
  local lease_at, marker_at = own + 1, own + 2
  local reading, last_read = { '', 'sweep', 'plan', 'grants', unpack(items, 5, 4 + m) }, most > 0 and own + 3 or own + 2
  reading[own + 3] = items[at]
  local fields = { items[at], '', 'claimed', items[at + 5], '', '' }
  for i = 2, #indexes do
    fields[2 * i + 3], fields[2 * i + 4] = items[4 + indexes[i]], ''
  end
  return function(key, now, micros, argv, lease)
    fields[5] = argv[lease]
    reading[lease_at] = argv[lease]
    reading[marker_at] = argv[lease + 1]
    local read, user = read_user(key, reading, last_read)
    local sweep, channel = user.sweep, user.channel
PLAINRESERVE
    return { RARE, now, 0 }
  end
end

-- Returns what plainsettle.lua is given of windows, from the item that has the endpoint.
local function read_windows(items, at)
  local windows, last_counted, held_in, first, marker, marker_text = items[at + 1] + 0, 1, ' ' .. items[at], nil, 0, nil
  for i = at + 2, #items, 2 do -- the windows; then the day and the hour
    local ends = items[i + 1] + 0
    last_counted = last_counted + 1
    if i < at + 2 + 2 * windows then
      held_in, last_counted = held_in .. ' ' .. items[i], last_counted + 1
    end
    first = math.min(first or ends, ends)
    if ends > marker then
      marker, marker_text = ends, items[i + 1]
    end
  end
  return windows, last_counted, held_in, first, marker, marker_text
end

local function new_settle(items, from, till, m, at)
  local indexes, crossing = { byte(items[at], 1, -1) }, nil
  for i = at + 2, at + 2 * items[at + 1], 2 do
    local index = items[i] + 0
    crossing = crossing or {}
    crossing[index] = crossing[index] or {}
    crossing[index][items[i + 1]] = true
  end
  at = at + 2 + 2 * items[at + 1]
  local windows, last_counted, held_in, first, marker, marker_text = read_windows(items, at)
  local ids, id_at = items, at
  local is_plain, is_weighted, own, names, name = first ~= nil, #indexes > last_counted + 2 * windows, FOUND + m, items, 4
  local lease_at, marker_at = own + 1, own + 2
  local reading, last_read = { '', 'sweep', 'plan', 'grants', unpack(items, 5, 4 + m) }, own + 2
  local fields, gone = { '', marker_text or '' }, { '' }
  for i = 2, last_counted do
    fields[2 * i - 1], fields[2 * i] = items[4 + indexes[i]], ''
  end
  return function(key, now, _, argv, lease, last_forgotten)
    local extra, forgotten, last, rest_units, rest_life, rest_field = 0, lease + 2, last_read, nil, nil, nil
    if is_weighted then
      extra, forgotten = argv[lease + 2], lease + 3
      if byte(extra) == 43 then
        extra, rest_units, rest_life = string.match(extra, '^%+(%-?%d+) (%d+) (%d+)$')
        rest_units, rest_life, rest_field, last = rest_units + 0, rest_life + 0, 'rest/' .. sub(argv[lease], 7), last_read + 3
        reading[own + 3], reading[own + 4], reading[own + 5] = 'rests', 'paid/' .. sub(argv[lease], 7), rest_field
      end
      extra = extra + 0
    end
    gone[1] = argv[lease]
    fields[1] = argv[lease + 1]
    reading[lease_at] = argv[lease]
    reading[marker_at] = argv[lease + 1]
    local found, user = read_user(key, reading, last)
    local sweep, channel = user.sweep, user.channel
    if now < user.since or now >= user.since + PERIOD then -- the clock may jump
      user.since, user.times = now, 0
    end
    user.times = user.times + 1
    local long = user.times == BUSY and LONG
PLAINSETTLE
    return { RARE, now, 0 }
  end
end

local function new_rest(items, from, till, m, at)
  local indexes = { byte(items[at], 1, -1) }
  at = at + 2 + 2 * items[at + 1]
  local windows, last_counted, held_in, first, marker, marker_text = read_windows(items, at)
  local is_plain, own, names, name = first ~= nil, FOUND + m, items, 4
  local reading = { '', 'sweep', 'plan', 'grants', unpack(items, 5, 4 + m) }
  reading[own + 3] = 'rests'
  local fields, gone = { '', marker_text or '' }, { '' }
  return function(key, now, _, argv, at_rest, last_forgotten)
    local forgotten, charged, held = at_rest + 3, string.match(argv[at_rest + 2], '^%+(%d+) (%d+)$')
    gone[1], fields[1] = argv[at_rest], argv[at_rest + 1]
    reading[own + 1], reading[own + 2] = argv[at_rest], argv[at_rest + 1]
    local found, user = read_user(key, reading, own + 3)
    local sweep, channel = user.sweep, user.channel
PLAINREST
    return { RARE, now, 0 }
  end
end

local news = { reserve = new_reserve, settle = new_settle, rest = new_rest }

-- Returns the function that serves requests by the terms of a text: new makes it of their items. What is kept only saves time: it
-- can be lost at any moment.
local function keep(text)
  local items, at = {}, 1
  while at <= #text do
    local size, start = string.match(text, '^%$(%d+)\r\n()', at)
    items[#items + 1] = sub(text, start, start + size - 1)
    at = start + size + 2
  end
  if number_kept == KEPT then
    kept, number_kept = {}, 0
  end
  local new = news[table.remove(items, 1)]
  kept[text], number_kept = new(items, items[1] + 0, items[2] + 0, items[3] + 0, 5 + items[3]), number_kept + 1
  return kept[text]
end

local replies = {}

redis.register_function('LIBRARY', function(keys, argv)
  if not call then
    call, byte, sub, format, unpack, tonumber, pcall = redis.call, string.byte, string.sub, string.format, _G.unpack, _G.tonumber, _G.pcall
  end
  local now, micros = clock(argv[1])
  if #keys == 1 then
    return (kept[argv[2]] or keep(argv[2]))(keys[1], now, micros, argv, 3, #argv)
  end
  local shape = argv[2]
  local own = 3 + byte(shape)
  for i, key in ipairs(keys) do
    local terms, number_own = byte(shape, 2 * i, 2 * i + 1)
    local text, next_own = argv[2 + terms], own + number_own
    local is_served, reply = pcall(kept[text] or keep(text), key, now, micros, argv, own, next_own - 1)
    if not is_served then -- the error of a lone request has a line as well
      reply = { err = (string.find(reply, '^%u+ ') and '' or 'ERR ') .. reply .. ' script: LIBRARY, on @user_function.' }
    end
    replies[i], own = reply, next_own
  end
  replies[#keys + 1] = nil
  return replies
end)
