-- What the scripts share; it stands before each of them.
--
-- All that Redis knows of a user is one hash, KEYS[1]. A script on one key is atomic in a
-- Redis Cluster too, even while the key's slot moves between nodes. A member of an organisation is a
-- user with a second hash, KEYS[2]: the pool that all members share. The fields of format 1:
--
--   format                the format of the hash; absent: 1
--   user                  the user's id as it is in the token
--   claimed               the plan that the token claimed when the user was last admitted
--   used/W   used/W/E     requests counted in window W: of all endpoints, of endpoint E
--   extra/W   extra/W/E   by how much the units of these requests exceed their number: the
--                         sum of (charged units - 1); absent: 0; may be negative
--   held/W   held/W/E     requests held in window W: by all endpoints, by endpoint E
--   heldextra/W   heldextra/W/E   by how much the units that these and rests hold exceed their number
--   lease/ID              a reservation: "EXPIRY E W W ...": when it ends, what it holds; with
--                         "EXPIRY+N" it holds N units more than the 1 of a request, N from -1 on
--   rest/ID               what this reservation still holds, counted as it is: "EXPIRY+N E W W ...", N
--                         units of no request, 1 or more
--   rests                 the number of rests; absent: 0
--   place/ID              the place of a running request, see reserve.lua: when it ends
--   places                the number of places; absent: 0
--   done/ID               a marker: this reservation is settled; when the marker ends
--   paid/ID               a marker: its rest is settled; likewise
--   grant/W   grant/W/E   requests granted for window W: to the limit on all, on E
--   unitgrant/W   unitgrant/W/E   units granted likewise, to the limit on units
--   grants                when the last of these ends; absent: there are none
--   plan                  "UNTIL NAME": the plan that an administrator has set; UNTIL 0: it
--                         has no end
--   terms                 quota.Terms as text: which windows run for this account, and what was
--                         carried into them; absent: the calendar, and nothing
--   audit                 "UNTIL", and the audit log, newest first: "\nTIME JSON" each
--   once/ID               "UNTIL FINGERPRINT" of the change that had this id
--   day/N/E   dayextra/N/E   requests counted on the newest day of the history, and by how much
--                         their units exceed their number. N is its date, in days since 1970
--   days                  "UNTIL N E E ...", and the history of the days before, see days.lua: a line "\nE F C,C,..."
--                         for each endpoint, with the counts "R" or "R+X" of the days from F on, empty:
--                         0. E E ... are the endpoints that were counted on day N; UNTIL: when its numbers end
--   events                "UNTIL", and the crossings that nobody has delivered yet, the oldest first: a line
--                         "\nID TIME USED ALLOWANCE THRESHOLD JSON" each, see quota.Crossing
--   rearmed/W             how often a reset, or counts that were set, have taken counts of window W down, or
--                         its counts were given another plan, while that or the one before had thresholds; absent: 0
--   bill/H/E   billextra/H/E   requests counted in the newest hour for bills, and by how much their units exceed
--                         their number; they are in no bill yet. H is the hour of UTC, in hours since 1970
--   bills                 "UNTIL R H E E ...": R is the last revision of a bill, 0: there was none; E E ... are the
--                         endpoints that were counted in hour H; UNTIL: when all of this ends. Then lines, see
--                         hours.lua: "\nH E C" for what was counted in an earlier hour and is in no bill yet, C as in
--                         days; "\n#H E C R" for a bill that was made and not ended
--   retain/W              when the counts and grants of window W end
--   sweep                 a time before which nothing in the hash ends; in a later format
--                         anything that is not a number
--   attempts/N/I          when the user's bucket of N attempts, of which one comes back
--                         every I µs, is full again, in µs; absent, or in the past: it is
--
-- W is the id of a window, such as "2026-11", and E an endpoint. All times are milliseconds
-- since 1970, except those in µs. The scripts end things themselves: only the whole key
-- uses Redis's own expiry. A key with a plan override that has no end has no expiry either.
--
-- The format changes when a gateway of format 1 would misread what is there. A new field that
-- it may ignore needs no new format. What release 0.1.0 counts crosses no threshold, as that release has none, and spoils none
-- of those after it: what a call crosses follows from the counts alone. Events and rearmed that it
-- leaves after their end are read by nobody, and go with the next sweep of another release. Release 0.1.0 knows no extra, heldextra, unitgrant, place,
-- places, rest, rests and paid, and does not keep them up to date when it deletes what has ended. So
-- delete_ended works them out again from the leases, rests and places that are there. To read the field format in each call would cost Redis
-- 0.1 µs, 2 % of read.lua. So a later format also puts something into sweep that is not a
-- number. Every script reads sweep first, and then refuses the hash, before it changes it.
--
-- Every script takes these, before its own arguments (common.go builds them):
--
--   KEYS[1]               the user's hash; its name has a hash tag
--   KEYS[2]               only for a member, where the script works on the pool as well: the pool's
--                         hash, with the same hash tag
--   ARGV[1]               offset to add to Redis's clock, in ms, any whole number; 0 except
--                         in tests
--   ARGV[2]               the user's id, 1 to 256 bytes
--   ARGV[3]               the plan override that the gateway assumes, as in the field plan;
--                         empty: none; *: the script must not compare it. Where terms matter,
--                         a line feed and the field terms that the gateway assumes follow
--   ARGV[4]               ms, 0 or more: from then on all windows run that the gateway assumes
--                         to run
--   ARGV[5]               ms, up to 2^52: until then they all run
--   ARGV[6]               m, the number of fields of counts to read, 0 or more. All are returned, unless
--                         reserve.lua or settle.lua says how many of the last ones are not
--   ARGV[7]               l, the number of limits, 0 to m/2: the first l pairs of fields are
--                         their counts
--   ARGV[8] to [7 + m]    these fields, first in pairs: used/W, held/W or used/W/E, held/W/E; for a
--                         limit on units, and for counts in units, extra/W, heldextra/W and so on;
--                         then those of which only used or extra is wanted
--   ARGV[rest], rest = 8 + m: the first of the script's own arguments
--
-- With KEYS[2], these come after its own arguments:
--
--   ARGV[block]           the id under which the pool is known, as ARGV[2]
--   ARGV[block + 1]       the plan override of the pool that the gateway assumes, as in ARGV[3]
--   ARGV[block + 2]       the terms of the pool that it assumes, if they matter in ARGV[3]; *: they do not
--                         matter
--   ARGV[block + 3]       for reserve.lua, what the request holds in the pool, as in a lease: "E W W";
--                         empty: nothing
--   ARGV[block + 4]...    n, 0 or more times: pair n of the fields is to be read in the pool
--   ARGV[#ARGV]           block
--
-- and returns {code, now, expired, used, held, used, held, ..., granted, granted, ...}:
-- Redis's clock in ms; the leases that this call has found to have run out; the fields, 0
-- where there is no count; and, if there are grants at all, one number for each limit. Or it
-- returns {OUTDATED, now, expired, assumed} when an assumption of the gateway is wrong:
-- there is another override, there are other terms, the gateway's clock is off, or a window has
-- just ended. Then the gateway asks again, with the windows of this time and with what ARGV[3]
-- should have been. With KEYS[2], byte 30 and the same of the pool follow.
--
-- In instructions of Redis 7.0, a script that does nothing takes 11,000, and each argument 1,000. A
-- redis.call takes 4,000 to 7,000, one more field in it 1,500 to 2,500. A function that the script creates takes
-- 500, tonumber 2,000, ARGV[i] + 0 only 1,000, and a number that becomes a text 2,500 to 5,000.

local OK, REFUSED, OUTDATED, SETTLED, UNHELD, THROTTLED, EXHAUSTED, HELD, CROWDED, OVERFULL = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
local GRACE = 600000 -- ms; longer than a call can be on its way

local call, key = redis.call, KEYS[1]
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
local rest = 8 + ARGV[6]

local sweep_at = nil -- the field sweep, as a number
local override, forever = '', false -- what is valid of the field plan: empty after its end; it has no end
local assumed_override, assumed_terms = ARGV[3], nil -- the two lines of ARGV[3]; nil: terms do not matter
local terms = nil -- the field terms, if they matter
local granted = nil -- to each limit, see ARGV[7]; nil: nothing
local outdated = false -- an assumption of the gateway is wrong
local changed = false -- this call has changed numbers that users see
local unreturned = 0 -- see ARGV[6]
local expired = 0 -- leases that this call has found to have run out

if #assumed_override > 1 or assumed_override == '\n' then
  local line_feed = string.find(assumed_override, '\n', 1, true)
  if line_feed then
    assumed_terms = string.sub(assumed_override, line_feed + 1)
    assumed_override = string.sub(assumed_override, 1, line_feed - 1)
  end
end

-- With a pool, the locals from key to changed are those of one hash at a time. other has those of the
-- other hash, and switch exchanges them.
local pool, last_arg = KEYS[2], #ARGV
local block, other, switch, read_pool = nil, nil, nil, nil
local CHANGED = 9 -- the index in other
if pool then
  block = tonumber(ARGV[last_arg])
  last_arg = block - 1
  other = { pool, nil, '', false, ARGV[block + 1], assumed_terms and ARGV[block + 2] ~= '*' and ARGV[block + 2] or nil, nil, nil, false }
  function switch()
    local before = other
    other = { key, sweep_at, override, forever, assumed_override, assumed_terms, terms, granted, changed }
    key, sweep_at, override, forever, assumed_override, assumed_terms, terms, granted, changed = unpack(before, 1, CHANGED)
  end
end

-- Returns a time as a string. Lua's own conversion would round it.
local function format_time(ms)
  return string.format('%.0f', ms)
end

-- Returns the time with which a value begins.
local function time_of(value)
  return tonumber(string.match(value, '^%d+'))
end

-- Returns how many units a lease holds beyond the 1 of a request, as a string; nil: none.
local function extra_of(lease)
  return string.match(lease, '^%d+%+(%-?%d+)')
end

-- Adds '1' or '-1' to what is held in all windows of a lease, and as often the units that it holds
-- beyond that. A count of 0 is deleted, to save memory. Mostly, no other lease and no rest
-- holds anything: then the units are set or deleted, in one call for all windows. rests is the field
-- rests, false if it is not there; nil: it is not known.
local function add_held(lease, delta, rests)
  changed = true
  local n, endpoint, empty, alone = 0, nil, {}, nil
  local extra = string.byte(lease, 14) ~= 32 and extra_of(lease) -- mostly, a blank follows the 13 digits
  local most = delta == '1' and 1 or 0 -- leases in a window, if there is no other
  for word in string.gmatch(lease, '%S+') do
    n = n + 1
    if n == 2 then
      endpoint = '/' .. word
    elseif n > 2 then
      local all = 'held/' .. word
      local one = all .. endpoint
      local of_all = call('HINCRBY', key, all, delta)
      if of_all <= 0 then
        empty[#empty + 1] = all
      end
      local of_one = call('HINCRBY', key, one, delta)
      if of_one <= 0 then
        empty[#empty + 1] = one
      end
      if extra then
        alone = alone or {}
        local field, leases = 'heldextra/' .. word, of_all
        for _ = 1, 2 do
          if rests == nil and leases <= most then
            rests = call('HGET', key, 'rests')
          end
          if leases > most or rests then
            call('HINCRBY', key, field, delta * extra)
          elseif most == 0 then
            empty[#empty + 1] = field
          else
            alone[#alone + 1] = field
            alone[#alone + 1] = extra
          end
          field, leases = field .. endpoint, of_one
        end
      end
    end
  end
  if alone and alone[1] then
    call('HSET', key, unpack(alone))
  end
  if #empty > 0 then
    call('HDEL', key, unpack(empty))
  end
end

-- Keeps the key until after a time.
local function keep_key_until(last)
  if forever then
    return
  end
  local left = call('PTTL', key)
  if left < 0 or now + left < last + GRACE then
    call('PEXPIREAT', key, format_time(last + GRACE - ARGV[1]))
  end
end

-- Notes that fields end at times from first to last, and keeps the key until after the last; nil: it is
-- known to live as long.
local function note_ends(first, last)
  if not sweep_at or first < sweep_at then
    sweep_at = first
    call('HSET', key, 'sweep', format_time(first))
  end
  if last then
    keep_key_until(last)
  end
end

-- Deletes what has ended, and buckets that are full. It reads the whole hash, and returns it
-- as it was before, with the time at which the last thing in it will have ended; nil: nothing
-- in it will end.
local function delete_ended()
  -- Adds what a lease holds beyond the 1 of a request, or what a rest holds, to a table by field.
  local function sum_extra(lease, sums)
    local extra, endpoint, windows = string.match(lease, '^%d+%+(%-?%d+) (%S+)(.*)$')
    for window in string.gmatch(windows or '', '%S+') do
      local all = 'heldextra/' .. window
      local one = all .. '/' .. endpoint
      sums[all], sums[one] = (sums[all] or 0) + extra, (sums[one] or 0) + extra
    end
  end

  -- The fields that end at the time with which their value begins, by their first word.
  local ending = {
    lease = true, rest = true, place = true, done = true, paid = true, retain = true, once = true, audit = true, plan = true, grants = true,
    days = true, bills = true, events = true,
  }
  local all = call('HGETALL', key)
  local nearest, last, gone, retained = nil, nil, {}, {}
  local sums, found = {}, {} -- the fields heldextra, places and rests: as they must be; those that there are
  local deletable = {} -- the kinds of counts to look at
  local match, byte = string.match, string.byte
  for i = 1, #all, 2 do
    local kind, name = nil, nil
    if byte(all[i], 4) ~= 47 then -- not day/N/E
      kind, name = match(all[i], '^(%a+)/?(.*)$')
    end
    local at = ending[kind] and time_of(all[i + 1]) or 0 -- 0: it does not end by itself
    if at > 0 then
      if at > now then
        nearest, last = math.min(nearest or at, at), math.max(last or at, at)
        if kind == 'lease' then
          sum_extra(all[i + 1], sums)
        elseif kind == 'rest' then
          sum_extra(all[i + 1], sums)
          sums.rests = (sums.rests or 0) + 1
        elseif kind == 'place' then
          sums.places = (sums.places or 0) + 1
        elseif kind == 'retain' then
          retained[name] = true
        end
      else
        call('HDEL', key, all[i])
        if kind == 'lease' then
          expired = expired + 1
          add_held((string.gsub(all[i + 1], '^(%d+)%+%S+', '%1')), '-1') -- of its units, see sums
        elseif kind == 'rest' then
          expired = expired + 1
          changed = true
        elseif kind == 'retain' then
          gone[name] = true
        elseif kind == 'plan' or kind == 'place' then
          changed = true
        elseif kind == 'days' or kind == 'bills' then
          local newest, endpoints = string.match(all[i + 1], kind == 'days' and '^%d+ (%d+)([^\n]*)' or '^%d+ %d+ (%d+)([^\n]*)')
          for endpoint in string.gmatch(endpoints or '', '%S+') do
            local word, name = string.sub(kind, 1, -2), '/' .. newest .. '/' .. endpoint
            call('HDEL', key, word .. name, word .. 'extra' .. name)
          end
        end
      end
    elseif kind == 'attempts' then
      local full = all[i + 1] / 1000
      if full > now then
        last = math.max(last or full, full)
      else
        call('HDEL', key, all[i])
      end
    elseif kind == 'heldextra' or kind == 'places' or kind == 'rests' then
      found[#found + 1] = all[i]
    elseif kind == 'extra' or kind == 'rearmed' then
      deletable[kind] = true
    end
  end
  if next(gone) then
    deletable = { used = true, grant = true, unitgrant = true, extra = true, rearmed = true }
  end
  if next(deletable) then
    for i = 1, #all, 2 do
      local kind, window = string.match(all[i], '^(%a+)/([^/]+)')
      if deletable[kind] and (gone[window] or (kind == 'extra' or kind == 'rearmed') and not retained[window]) then
        call('HDEL', key, all[i])
      end
    end
  end
  for i = 1, #found do
    if not sums[found[i]] then
      call('HDEL', key, found[i])
    end
  end
  for field, n in pairs(sums) do
    call('HSET', key, field, format_time(n))
  end
  sweep_at = nearest
  if nearest then
    call('HSET', key, 'sweep', format_time(nearest))
  else
    call('HDEL', key, 'sweep')
  end
  return all, last
end

-- Reads some fields, and returns a list that has their values from FOUND on. It also reads
-- what every script needs, and deletes what has ended once something has. A full bucket
-- is not a reason to do so; it only goes along.
local FOUND = 4
local function read_fields(...)
  local found = call('HMGET', key, 'sweep', 'plan', 'grants', ...)
  sweep_at = found[1] and tonumber(found[1]) or nil
  if found[1] and not sweep_at then
    local format = call('HGET', key, 'format') or '?'
    error('the data of this user has format ' .. format .. ', this version of the gateway knows only format 1', 0)
  end
  if sweep_at and now >= sweep_at then
    delete_ended()
    return read_fields(...)
  end
  override = found[2] or ''
  if override ~= '' then
    forever = time_of(override) == 0
    if not forever and now >= time_of(override) then
      override = ''
    end
  end
  outdated = outdated or assumed_override ~= override and assumed_override ~= '*' or now < ARGV[4] + 0 or now >= ARGV[5] + 0
  if assumed_terms then
    terms = call('HGET', key, 'terms') or ''
    outdated = outdated or terms ~= assumed_terms
  end
  if found[3] and ARGV[7] ~= '0' then
    local names = {}
    for i = 1, tonumber(ARGV[7]) do
      local field = ARGV[6 + 2 * i]
      names[i] = string.gsub(field, '^%a+', string.byte(field) == 117 and 'grant' or 'unitgrant') -- of used, or of extra
    end
    granted = call('HMGET', key, unpack(names))
  end
  return found
end

-- Reads what every script needs of the pool and, into a list in which the counts begin at index first,
-- the numbers that are to be read there; no list: none. Then granted has what is granted to each limit,
-- wherever it is kept.
if pool then
  function read_pool(list, first)
    local names = {}
    for i = block + 4, list and #ARGV - 1 or 0 do
      local pair = 2 * ARGV[i]
      names[#names + 1] = ARGV[6 + pair]
      names[#names + 1] = ARGV[7 + pair]
    end
    switch()
    local found, shared = read_fields(unpack(names)), granted
    switch()
    for n = 1, #names / 2 do
      local i = tonumber(ARGV[block + 3 + n])
      list[first + 2 * i - 2], list[first + 2 * i - 1] = found[FOUND + 2 * n - 2], found[FOUND + 2 * n - 1]
      if (granted or shared) and i <= tonumber(ARGV[7]) then
        for j = 1, granted and 0 or tonumber(ARGV[7]) do
          granted = granted or {}
          granted[j] = false
        end
        granted[i] = shared and shared[i] or false
      end
    end
  end
end

-- Tells the gateways that the user's numbers have changed. A Redis user who may not publish
-- does without.
local function publish_change()
  if changed then
    redis.pcall('PUBLISH', key .. ':changes', '')
  end
  if pool and other[CHANGED] then
    redis.pcall('PUBLISH', pool .. ':changes', '')
  end
end

-- Ends the call, and returns its reply. The counts begin at index first of a list.
local function reply_with(code, counts, first)
  publish_change()
  local reply = { code, now, expired, unpack(counts, first, first + rest - 9 - unreturned) }
  if granted then
    for i = 1, #granted do
      reply[#reply + 1] = granted[i]
    end
  end
  return reply
end

-- Ends the call, and returns the reply when an assumption of the gateway is wrong.
local function reply_outdated()
  publish_change()
  local is = terms and override .. '\n' .. terms or override
  if pool then
    switch()
    is = is .. '\30' .. (terms and override .. '\n' .. terms or override)
  end
  return { OUTDATED, now, expired, is }
end
