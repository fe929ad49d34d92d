-- The functions that the scripts share. They stand after common.lua.

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
  local nearest, last, gone, retained, deleted = nil, nil, {}, {}, {}
  local is_table = false -- Redis keeps the hash as a table: a value is longer than a list takes by default
  local sums, found = {}, {} -- the fields heldextra, places and rests: as they must be; those that there are
  local deletable = {} -- the kinds of counts to look at
  local match, byte = string.match, string.byte
  for i = 1, #all, 2 do
    local kind, name = nil, nil
    is_table = is_table or #all[i + 1] > 64
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
        if kind ~= 'lease' then
          deleted[#deleted + 1] = all[i]
        end
        if kind == 'lease' then
          call('HDEL', key, all[i]) -- This comes first: a Redis that is out of memory refuses to count, but not after this.
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
            deleted[#deleted + 1] = word .. name
            deleted[#deleted + 1] = word .. 'extra' .. name
          end
        end
      end
    elseif kind == 'attempts' then
      local full = all[i + 1] / 1000
      if full > now then
        last = math.max(last or full, full)
      else
        deleted[#deleted + 1] = all[i]
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
        deleted[#deleted + 1] = all[i]
      end
    end
  end
  for i = 1, #found do
    if not sums[found[i]] then
      deleted[#deleted + 1] = found[i]
    end
  end
  for i = 1, #deleted, 1000 do -- Lua can pass on some thousands at most
    call('HDEL', key, unpack(deleted, i, math.min(i + 999, #deleted)))
  end
  for field, n in pairs(sums) do
    call('HSET', key, field, format_time(n))
  end
  sweep_at = nearest
  if nearest then
    call('HSET', key, 'sweep', format_time(nearest))
    if #all / 2 - #deleted > 128 and not is_table then -- as a list, so many fields take longer to read than all else
      call('HSET', key, 'long', string.rep('-', 65))
    end
  else
    call('HDEL', key, 'sweep')
  end
  return all, last
end

-- Reads some fields, and returns a list that has their values from FOUND on. It also reads
-- what every script needs, and deletes what has ended once something has. A full bucket
-- is not a reason to do so; it only goes along.
local function read_fields(...)
  local found = read or call('HMGET', key, 'sweep', 'plan', 'grants', ...)
  read = nil
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
