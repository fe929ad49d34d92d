-- Takes an attempt, and holds the request or refuses it, unless something about it is rare. It does what reserve.lua does,
-- by the same rules, in fewer calls. A rare request is left to reserve.lua. These lines are part of a function of
-- library.lua, and of the script, where they stand between common.lua and functions.lua: to create those functions first
-- would take Redis a fifth more. Both give them:
--
--   is_plain      the gateway assumes no override and no terms, and there are no units, places, pool, and nothing is observed
--   now, micros   Redis's clock with the offset, in ms, and the µs of its second
--   from, till    ARGV[4] and ARGV[5], see common.lua
--   read          what HMGET has found: sweep, plan and grants, then, in any order:
--                 read[before + i]          field i of counts, i from 1 to m
--                 read[own], read[own + 1]  lease/ID and done/ID
--                 read[bucket]              attempts/N/I; anything without a bound
--   names, name   names[name + i] is the name of field i
--   indexes       ARGV[rest + 9] of reserve.lua, as a list of numbers
--   allowances, allowance, l   allowances[allowance + i] is what limit i of l allows, ARGV[rest + 9 + i]
--   lease_name, bucket_name, life, holds, most, interval, claimed
--                 ARGV[rest] and ARGV[rest + 2] to ARGV[rest + 7]

local expiry = now + life

-- Takes one attempt, or finds the time until there is one. This is AttemptLimit.TakeToken of package
-- quota. In µs all numbers stay below 2^53.
local full, wait = nil, 0
if most > 0 then
  local at, fill = now * 1000 + micros % 1000, most * interval
  full = tonumber(read[bucket]) or 0
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

-- Nothing has ended or ends sooner, no assumption is wrong, the id is new, and there are no grants. A count in a window that
-- runs stays for an hour or more after the window, and the key with it. The user's name is there: each call that notes a
-- sweep has written it before.
local sweep = tonumber(read[1] or 0)
if is_plain and sweep and now < sweep and sweep <= expiry and not read[2] and not read[3] and now >= from and now < till
  and not read[own] and not read[own + 1] and read[before + 1] and expiry - now < 3600000 and (not full or full / 1000 <= expiry) then
  local code, used = OK, before
  for i = 1, l do
    local allowed = allowances[allowance + i] + 0
    if allowed >= 0 and (read[used + 1] or 0) + (read[used + 2] or 0) >= allowed then
      code = REFUSED
    end
    used = used + 2
  end
  if wait > 0 then
    code = THROTTLED
  end
  -- The table has room for most requests from the beginning: one that grows is copied each time. %d may have 32 bits.
  local fields, last = { nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil }, 0
  if full then
    local low = full % 100000000
    fields[1], fields[2], last = bucket_name, format('%d%08d', (full - low) / 100000000, low), 2
  end
  if code == OK then
    local ms = expiry % 1000000
    fields[last + 1], fields[last + 2], fields[last + 3], fields[last + 4] = 'claimed', claimed, lease_name, format('%d%06d ', (expiry - ms) / 1000000, ms) .. holds
    last = last + 4
    for i = 2, #indexes do
      local index = indexes[i]
      local held = read[before + index]
      if held then
        held = held + 1
        held = held % 1 == 0 and held <= MOST and format('%d', held) or held
      end
      fields[last + 1], fields[last + 2], last = names[name + index], held or '1', last + 2
    end
  end
  if last > 0 then
    call('HSET', key, unpack(fields, 1, last))
  end
  if code == OK then
    redis.pcall('PUBLISH', key .. ':changes', '')
  end
  local reply = { code, now, 0, unpack(read, before + 1, before + m - indexes[1]) }
  if wait > 0 then
    reply[#reply + 1] = wait
  end
  return reply
end
