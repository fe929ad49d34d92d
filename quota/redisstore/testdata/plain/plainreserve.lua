-- Reads what reserve.lua reads, takes an attempt, and holds the request if nothing about it is rare. It stands between
-- common.lua and functions.lua: to create the functions would take Redis a fifth more. What is rare goes on in
-- reserve.lua, which does the same by the same rules, in more calls.

local last_field, where = ARGV[rest + 2] ~= '' and rest + 2 or rest + 1, ARGV[rest + 12]
local limits, more, observed = rest + 12, ARGV[rest + 9], ARGV[rest + 7] == '1'
local expiry = now + ARGV[rest + 3]
unreturned = string.byte(where) or 0
read = call('HMGET', key, 'sweep', 'plan', 'grants', unpack(ARGV, 8, last_field))
local own = FOUND + ARGV[6] -- the index of lease/ID in it

-- Takes one attempt, or finds the time until there is one. This is AttemptLimit.TakeToken of package
-- quota. In µs all numbers stay below 2^53.
local full, wait = nil, 0
if ARGV[rest + 5] ~= '0' then
  local interval = ARGV[rest + 6] + 0
  local at, fill = now * 1000 + time[2] % 1000, ARGV[rest + 5] * interval
  full = math.max(tonumber(read[own + 2]) or 0, at)
  if full > at + fill + interval then
    full = at + fill - interval
  end
  full = full + interval
  if full > at + fill then
    wait = full - at - fill
    full = nil
  end
end

-- Nothing has ended or ends sooner, no assumption is wrong, the id is new, and there are no grants, units, places or
-- pool. A count in a window that runs stays for an hour or more after the window, and the key with it.
local sweep = tonumber(read[1] or 0)
if where ~= '' and more == '0' and wait == 0 and ARGV[rest + 10] == '0' and last_arg == limits + ARGV[7]
  and sweep and now < sweep and sweep <= expiry and not read[2] and not read[3] and ARGV[3] == '' and now >= ARGV[4] + 0 and now < ARGV[5] + 0
  and not read[own] and not read[own + 1] and read[FOUND] and expiry - now < 3600000 and (not full or full / 1000 <= expiry) then
  local admitted = true
  for i = 1, ARGV[7] + 0 do
    local allowed, used = ARGV[limits + i] + 0, FOUND + 2 * i - 2
    admitted = admitted and (allowed < 0 or (read[used] or 0) + (read[used + 1] or 0) + 1 <= allowed)
  end
  if admitted then
    -- The table has room for most requests from the beginning: one that grows is copied each time.
    local fields, last = { 'user', ARGV[2], 'claimed', ARGV[rest + 8], ARGV[rest], string.format('%.0f', expiry) .. ' ' .. ARGV[rest + 4], nil, nil, nil, nil, nil, nil, nil, nil, nil, nil }, 6
    if full then
      fields[7], fields[8], last = ARGV[rest + 2], string.format('%.0f', full), 8
    end
    for i = 2, #where do
      local index = string.byte(where, i)
      local held = read[FOUND - 1 + index]
      fields[last + 1], fields[last + 2], last = ARGV[7 + index], held and held + 1 or '1', last + 2
    end
    call('HSET', key, unpack(fields, 1, last))
    redis.pcall('PUBLISH', key .. ':changes', '')
    return { OK, now, expired, unpack(read, FOUND, FOUND + rest - 9 - unreturned) }
  end
end
