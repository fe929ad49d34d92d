-- Reads what reserve.lua reads, takes an attempt, and holds the request if nothing about it is rare. It stands between
-- common.lua and functions.lua: to create the functions would take Redis a fifth more. What is rare goes on in
-- reserve.lua, which does the same by the same rules, in more calls.

local last_field, limits, where = argv[rest + 2] ~= '' and rest + 2 or rest + 1, rest + 9, argv[rest + 9]
local expiry, options = now + argv[rest + 3], argv[rest + 8]
unreturned = byte(where) or 0
read = call('HMGET', key, 'sweep', 'plan', 'grants', unpack(argv, 8, last_field))
local own = rest - 4 -- the index of lease/ID in it

-- Takes one attempt, or finds the time until there is one. This is AttemptLimit.TakeToken of package
-- quota. In µs all numbers stay below 2^53.
local full, wait = nil, 0
if argv[rest + 5] ~= '0' then
  local interval = argv[rest + 6] + 0
  local at, fill = now * 1000 + micros % 1000, argv[rest + 5] * interval
  full = tonumber(read[own + 2]) or 0
  if full < at then
    full = at
  elseif full > at + fill + interval then
    full = at + fill - interval
  end
  full = full + interval
  if full > at + fill then
    wait = full - at - fill
    full = nil
  end
end

-- Nothing has ended or ends sooner, no assumption is wrong, the id is new, and there are no grants, units, places or
-- pool. A count in a window that runs stays for an hour or more after the window, and the key with it. The user's name
-- is there: each call that notes a sweep has written it before.
local sweep, last_limit = tonumber(read[1] or 0), limits + argv[7]
if where ~= '' and wait == 0 and options == '' and last_arg == last_limit
  and sweep and now < sweep and sweep <= expiry and not read[2] and not read[3] and argv[3] == '' and now >= argv[4] + 0 and now < argv[5] + 0
  and not read[own] and not read[own + 1] and read[FOUND] and expiry - now < 3600000 and (not full or full / 1000 <= expiry) then
  local admitted, used = true, FOUND
  for i = limits + 1, last_limit do
    local allowed = argv[i] + 0
    admitted = admitted and (allowed < 0 or (read[used] or 0) + (read[used + 1] or 0) < allowed)
    used = used + 2
  end
  if admitted then
    local ms = expiry % 1000000
    -- The table has room for most requests from the beginning: one that grows is copied each time. %d may have 32 bits.
    local fields, last = { 'claimed', argv[rest + 7], argv[rest], format('%d%06d ', (expiry - ms) / 1000000, ms) .. argv[rest + 4], nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil }, 4
    if full then
      local low = full % 100000000
      fields[5], fields[6], last = argv[rest + 2], format('%d%08d', (full - low) / 100000000, low), 6
    end
    local indexes = { byte(where, 2, -1) }
    for i = 1, #indexes do
      local index = indexes[i]
      local held = read[FOUND - 1 + index]
      if held then
        held = held + 1
        held = held % 1 == 0 and held <= MOST and format('%d', held) or held
      end
      fields[last + 1], fields[last + 2], last = argv[7 + index], held or '1', last + 2
    end
    call('HSET', key, unpack(fields, 1, last))
    redis.pcall('PUBLISH', key .. ':changes', '')
    return { OK, now, expired, unpack(read, FOUND, own - 1 - unreturned) }
  end
end
