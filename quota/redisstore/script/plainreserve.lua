-- Takes an attempt, and holds the request or refuses it, unless something about it is rare. It does what reserve.lua does,
-- by the same rules, in fewer calls. A rare request is left to reserve.lua. These lines are part of a function of
-- library.lua, and of the script, where they stand between common.lua and functions.lua: to create those functions first
-- would take Redis a fifth more. Both give them:
--
--   is_plain      the gateway assumes no override and no terms, and there are no places, no pool, and nothing is observed
--   now, micros   Redis's clock with the offset, in ms, and the µs of its second
--   from, till    ARGV[4] and ARGV[5], see common.lua
--   read          what HMGET has found: sweep, plan and grants, the fields of counts, field i as read[3 + i], and then:
--                 read[own], read[own + 1]  lease/ID and done/ID
--                 read[own + 2]             attempts/N/I; anything without a bound
--   sweep         read[1] as a number; 0: there is no such field; nil: it is not a number
--   names         names[name + i] is the name of field i of counts, for i from 1 to m
--   indexes       ARGV[rest + 9] of reserve.lua, as a list of numbers
--   half          how many of them say held/W or held/W/E. With more, as many that say heldextra/W or heldextra/W/E follow
--   more          the units that the request holds beyond its 1
--   allowances    allowances[i] is what a limit allows, for i from first_limit to last_limit
--   requests_of   requests_of[i] is the index in read of the requests of limit i, from 1 on, if that is on units; nil: no limit is
--   fields        names and values to set: attempts/N/I, claimed, lease/ID, and the fields that indexes[2], indexes[3] ... say. The
--                 values of all but claimed are still missing
--   life, holds, most, interval   ARGV[rest + 3] to ARGV[rest + 6]
--   channel       the one on which changes of the user are announced; nil: it is not known
--   next_of       texts of numbers, and those of the next numbers; nil: none are kept

local expiry = now + life

-- Takes one attempt, or finds the time until there is one. This is AttemptLimit.TakeToken of package
-- quota. In µs all numbers stay below 2^53.
local full, wait = nil, 0
if most > 0 then
  local at, fill = now * 1000 + micros % 1000, most * interval
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

-- From the time sweep on, something may have ended. What has ended does not matter to this request if nothing is held in the
-- windows that run. It stays until a script deletes it. So most requests after a pause are plain.
local is_free = true
for i = 1, is_plain and sweep and now >= sweep and m or 0 do
  is_free = is_free and not (read[3 + i] and byte(names[name + i]) == 104) -- held or heldextra
end
-- If nobody holds requests, nobody should hold units of them: what is left of a rest, or by an old release, is not plain.
for i = half + 2, is_plain and more > 0 and #indexes or 0 do
  is_free = is_free and (not read[3 + indexes[i]] or read[3 + indexes[i - half]])
end

-- A count in a window that runs stays for an hour or more after the window, and the key with it. So the key outlives the lease.
local is_counted = read[FOUND]
for i = 1, is_counted and 0 or last_limit - first_limit + 1 do
  is_counted = is_counted or read[requests_of and requests_of[i] or FOUND + 2 * i - 2]
end

-- No assumption is wrong, the id is new, and there are no grants. The user's name is there: each call that notes a sweep has
-- written it before.
if is_plain and is_free and sweep and now < sweep + OVERDUE and not read[2] and not read[3] and now >= from and now < till
  and not read[own] and not read[own + 1] and is_counted and expiry - now < 3600000 and (not full or full / 1000 <= expiry) then
  local code, used, are_units_held = OK, FOUND, false
  for i = first_limit, last_limit do
    local allowed = allowances[i] + 0
    if allowed >= 0 then
      local taken, requests = (read[used] or 0) + (read[used + 1] or 0), requests_of and requests_of[i - first_limit + 1]
      if requests then
        taken, are_units_held = taken + (read[requests] or 0) + (read[requests + 1] or 0) + more, are_units_held or read[used + 1]
      end
      if taken >= allowed then
        code = REFUSED
      end
    end
    used = used + 2
  end
  if wait > 0 then
    code = THROTTLED
  end
  if code ~= REFUSED or not are_units_held then -- otherwise the lease that holds these units may have ended
    if full then -- %d may have 32 bits
      local low = full % 100000000
      fields[2] = format('%d%08d', (full - low) / 100000000, low)
    end
    if code == OK then
      local ms, last = expiry % 1000000, 2 * #indexes + 4
      local text = format('%d%06d', (expiry - ms) / 1000000, ms)
      fields[6] = text .. (more > 0 and '+' .. more .. ' ' or ' ') .. holds
      for i = 2, half + 1 do
        local held, after = read[3 + indexes[i]], '1'
        if held then
          after = next_of and next_of[held]
          if not after then
            after = held + 1
            after = after % 1 == 0 and after <= MOST and format('%d', after) or after
          end
        end
        fields[2 * i + 4] = after
      end
      for i = half + 2, #indexes do -- the units
        local after = (read[3 + indexes[i]] or 0) + more
        fields[2 * i + 4] = after % 1 == 0 and after <= MOST and format('%d', after) or after
      end
      if sweep > expiry then
        fields[last + 1], fields[last + 2], last = 'sweep', text, last + 2
      end
      call('HSET', key, unpack(fields, full and 1 or 3, last))
      redis.pcall('PUBLISH', channel or key .. ':changes', '')
    elseif full then
      call('HSET', key, fields[1], fields[2])
    end
    -- The reply is what was read, with three other values before the counts, and without the fields that are not returned.
    read[1], read[2], read[3] = code, now, 0
    local after = own - indexes[1]
    read[after], read[after + 1] = nil, nil
    if wait > 0 then
      read[after] = wait
    end
    return read
  end
end
