-- Settles the rest of one reservation as settle.lua and rests.lua do, unless something about it is rare. A rare one is left to
-- them. These lines are part of a function of library.lua, which gives them what it gives plainsettle.lua, and:
--
--   found[own], found[own + 1], found[own + 2]   rest/ID, paid/ID and rests
--   charged, held   what is charged of the rest, and what it holds, as texts; nil: the argument has another form
--   fields, gone    as for plainsettle.lua, of paid/ID and rest/ID

-- No assumption is wrong, there are no grants, and the rest is held in the windows that run. From the time sweep on, it must be
-- all that is held, for the reason that plainreserve.lua has. The key must live as long as the marker.
local rest, units, holds = is_plain and found[own], nil, nil
if rest then
  units, holds = string.match(rest, '^%+(%d+)(.*)$', 14)
end
if rest and sweep and now < sweep + OVERDUE and sweep <= first and now < first
  and marker - now > GRACE and marker - now <= 315360000000 and not found[2] and not found[3] and now >= from and now < till
  and holds == held_in and units == held and not found[own + 1] and found[own + 2] and (now < sweep or now < (tonumber(sub(rest, 1, 13)) or 0)) then
  local plain, last, last_gone, extra = true, 2, 1, charged + 0
  for i = 1, now >= sweep and own - FOUND or 0 do
    plain = plain and not (found[3 + i] and sub(names[name + i], 1, 5) == 'held/')
  end
  for i = 2, last_counted do -- the request is counted there, and it is known when these counts end
    plain = plain and found[3 + indexes[i]]
  end
ADDUNITS
  for i = 2 * last_counted + 2 * windows, plain and #indexes + 1 or 0 do -- the units of what is held, and then the number of rests
    local index, taken = indexes[i], units
    if not index then
      index, taken = own - 1, 1 -- found[own + 2]
    end
    local count = found[3 + index]
    local after = count and tonumber(count)
    after = after and after - taken
    if not after or after % 1 ~= 0 or after < 0 or after > 0 and now >= sweep then
      plain = false
      break
    end
    local field = indexes[i] and names[name + index] or 'rests'
    if after > 0 then
      after = format(after > MOST and '%.0f' or '%d', after)
      fields[last + 1], fields[last + 2], last = field, after, last + 2
    else
      after, last_gone = false, last_gone + 1
      gone[last_gone] = field
    end
    found[3 + index] = after
  end
  if plain and now + call('PTTL', key) >= marker then
    for i = forgotten, last_forgotten do
      last_gone = last_gone + 1
      gone[last_gone] = argv[i]
    end
    -- This comes first: a Redis that is out of memory refuses to count, but not after this.
    call('HDEL', key, unpack(gone, 1, last_gone))
    call('HSET', key, unpack(fields, 1, last))
    redis.pcall('PUBLISH', channel, '')
    found[1], found[2], found[3], found[own - indexes[1]] = OK, now, 0, nil
    return found
  end
end
