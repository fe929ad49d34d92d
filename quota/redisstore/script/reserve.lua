-- Holds a request, and the units that it may cost, in every window of a plan, of the user and of a
-- pool, or changes no count and no hold. A lease in the pool has the id of that in the user's hash, and
-- ends with it. Sent twice, it holds once. Its own arguments (reserve.go builds them):
--
--   ARGV[rest]      lease/ID, with the reservation's id
--   ARGV[rest + 1]  done/ID
--   ARGV[rest + 2]  attempts/N/I; without a bound rests, which is read in its place; empty: neither is needed
--   ARGV[rest + 3]  how long the lease lasts, in ms, 1 or more
--   ARGV[rest + 4]  what it holds: "E W W ...": the endpoint, then the id of each window
--   ARGV[rest + 5]  N, the attempts that the user may make at once, 1 or more; 0: no bound
--   ARGV[rest + 6]  I, the time in which one of them comes back, in µs, 1 or more; 0 without
--                   a bound
--   ARGV[rest + 7]  the name of the plan that the user's token claims, for the field claimed
--   ARGV[rest + 8]  "OBSERVED UNITS C PLACE"; empty: "0 0 0 0", and no limit is on units
--                     OBSERVED: 1: observe only: neither limits nor attempts refuse the request; or 0
--                     UNITS: the units that it holds beyond the 1 of a request, 0 to 10^9 - 1
--                     C: the requests that may run at once, 1 or more; 0: no bound
--                     PLACE: when its place ends, in ms from now, 1 or more
--   ARGV[rest + 9]  for plainreserve.lua, bytes: how many of the last fields of counts are not returned, and then for each window of
--                   ARGV[rest + 4] i and j: field i of counts is held/W, field j held/W/E; for a request that holds more than 1 unit,
--                   those of heldextra/W and heldextra/W/E follow. Empty: all are returned,
--                   and it is not known which they are
--   ARGV[rest + 9 + i], i from 1 to l: what limit i allows without grants, 0 or more; -1: it
--                   refuses nothing, because it does not apply to the endpoint or is soft
--   then, for each limit on units that may refuse the request, its i, and j: pair j of the
--                   fields has the requests of the limit, to which pair i is what is extra
--
-- A place is taken by a request that is admitted while C bounds how many run. It stays when the
-- request is settled, until leave.lua gives it back, and ends by itself unless renew.lua renews it.
--
-- Codes:
--
--   OK         admitted
--   REFUSED    a limit is reached
--   OUTDATED
--   SETTLED    the id was committed or released before; nothing is held
--   HELD       the id is held already; the reply ends with its lease, which says in which windows:
--              others may run now. With KEYS[2], byte 30 and the lease in the pool follow, empty: none
--   THROTTLED  no attempt is left; the reply ends with one more number: the time until there
--              is one, in µs
--   EXHAUSTED  admitted as with OK, because the request is only observed, but no attempt is
--              left
--   CROWDED    no place is left; the limits would admit the request
--   OVERFULL   admitted as with OK, because the request is only observed, but no place is left;
--              EXHAUSTED goes before it
--
-- The counts are those before the call.

local observed, more, concurrent, place_life = string.match(options, '^(%d) (%d+) (%d+) (%d+)$')
observed, more, concurrent = observed == '1', more or '0', tonumber(concurrent or 0)

local found = read_fields(unpack(ARGV, 8, last_field))
if pool then
  read_pool(found, FOUND)
end
if outdated then
  return reply_outdated()
end
if found[own + 1] then
  return reply_with(SETTLED, found, FOUND)
end
if found[own] then
  local reply, leases = reply_with(HELD, found, FOUND), found[own]
  if pool then
    leases = leases .. '\30' .. (call('HGET', pool, ARGV[rest]) or '')
  end
  reply[#reply + 1] = leases
  return reply
end

local refused = false
if not observed then
  if wait > 0 then
    local reply = reply_with(THROTTLED, found, FOUND)
    reply[#reply + 1] = wait
    return reply
  end
  local requests_of = nil -- by limit on units: the index in found of its requests
  for i = limits + ARGV[7] + 1, last_arg, 2 do
    requests_of = requests_of or {}
    requests_of[tonumber(ARGV[i])] = FOUND + 2 * ARGV[i + 1] - 2
  end
  for try = 1, 2 do
    local extra_held = false
    refused = false
    for i = 1, ARGV[7] + 0 do
      local allowed, used = ARGV[limits + i] + 0, FOUND + 2 * i - 2
      if allowed >= 0 then
        local after = (found[used] or 0) + (found[used + 1] or 0) + 1
        local requests = requests_of and requests_of[i]
        if requests then
          after = after + (found[requests] or 0) + (found[requests + 1] or 0) + more
          extra_held = extra_held or found[used + 1]
        end
        refused = refused or after > allowed + (granted and granted[i] or 0)
      end
    end
    -- Mostly, the lease or rest that holds these units ends before that of this request would. If the
    -- next sweep comes later, a release that knows no units may have made the last one.
    if not refused or not extra_held or try == 2 or sweep_at and sweep_at <= now + math.max(tonumber(ARGV[rest + 3]), tonumber(place_life)) then
      break
    end
    delete_ended()
    found = read_fields(unpack(ARGV, 8, last_field))
    if pool then
      read_pool(found, FOUND)
    end
  end
end

-- Finds out whether a place is left. Every place ends within the time that this one would; if the
-- next sweep comes later, a release that knows no places has made the last one.
local crowded = false
if concurrent > 0 and not refused then
  local places = tonumber(call('HGET', key, 'places') or 0)
  if places >= concurrent and (not sweep_at or sweep_at > now + place_life) then
    delete_ended()
    places = tonumber(call('HGET', key, 'places') or 0)
  end
  crowded = places >= concurrent
  refused = crowded and not observed
end
if refused then
  if full then
    call('HSET', key, 'user', ARGV[2], ARGV[rest + 2], format_time(full))
    keep_key_until(full / 1000)
  end
  return reply_with(crowded and CROWDED or REFUSED, found, FOUND)
end

local lease = format_time(expiry) .. (more ~= '0' and '+' .. more or '') .. ' ' .. ARGV[rest + 4]
if full then
  call('HSET', key, 'user', ARGV[2], 'claimed', ARGV[rest + 7], ARGV[rest], lease, ARGV[rest + 2], format_time(full))
else
  call('HSET', key, 'user', ARGV[2], 'claimed', ARGV[rest + 7], ARGV[rest], lease)
end
local rests = nil -- the field, if it was read
if ARGV[rest + 2] == 'rests' then
  rests = found[own + 2]
end
add_held(lease, '1', rests)
local first = expiry
if concurrent > 0 then
  local place_ends = now + place_life
  if call('HSET', key, 'place/' .. string.sub(ARGV[rest], 7), format_time(place_ends)) == 1 then
    call('HINCRBY', key, 'places', '1')
  end
  first = math.min(first, place_ends)
end
note_ends(first, full and math.max(expiry, full / 1000) or expiry)
if pool and ARGV[block + 3] ~= '' then
  switch()
  lease = string.match(lease, '^%S+ ') .. ARGV[block + 3]
  call('HSET', key, 'user', ARGV[block], 'claimed', ARGV[rest + 7], ARGV[rest], lease)
  add_held(lease, '1')
  note_ends(expiry, expiry)
  switch()
end
return reply_with(wait > 0 and EXHAUSTED or crowded and OVERFULL or OK, found, FOUND)
