-- Counts one reservation as settle.lua does, unless something about it is rare. A rare one is left to
-- settle.lua. These lines stand in the same places as those of plainreserve.lua, which give them:
--
--   is_plain      the gateway assumes no override and no terms
--   now, from, till, sweep, own, indexes, channel, next_of   as for plainreserve.lua; indexes are the last argument of settle.lua
--                 before that of a pool, and found is what is read there
--   previous_of   likewise, texts of numbers and those of the numbers before them
--   windows       how many windows the reservation has
--   last_counted   the index in indexes of the last count that the request adds to
--   is_weighted   the request holds units beyond its 1: then indexes also say their fields
--   extra         the units that it is charged beyond its 1, -1 or more
--   rest_units    the units of the rest that it leaves; nil: it leaves none. If it leaves one, found[own + 2] to found[own + 4] are
--                 rests, paid/ID and rest/ID, rest_life is how long the rest is held, in ms, and rest_field is rest/ID
--   held_in       what its lease says after its time, and after "+N" if it holds units: " E W W ..."
--   ids, id_at    ids[id_at + 2 * i] is the id of its window i, ids[id_at + 2 * i + 1] when the counts there end
--   first         when the first of the counts ends that the request adds to
--   marker, marker_text   when the last of them ends
--   names         names[name + i] is the name of field i of counts
--   fields        names and values to set: done/ID and marker_text, then the fields that are counted, whose values are still missing
--   gone          fields to delete: lease/ID, and ARGV[forgotten] to ARGV[last_forgotten], the markers to delete, are still missing
--   crossing      crossing[i][C]: a threshold is reached when field i of counts reaches C; nil: none ever is
--   long          a value for the field long; nil, false: it stays as it is

-- No assumption is wrong, there are no grants, no threshold is reached, and the lease holds the request in the windows that run. On
-- the day and in the hour, something was counted before. From the time sweep on, this request must be all that is held in
-- the windows, and no rest may hold units there, for the reason that plainreserve.lua has. The key must live as long as the
-- marker. It may not, if counts were kept for less time before, or if somebody has changed when it expires.
local lease, more, holds = is_plain and found[own], nil, nil
if lease and is_weighted then
  more, holds = string.match(lease, '^%+(%d+)(.*)$', 14)
elseif lease then
  holds = sub(lease, 14)
end
if lease and sweep and now < sweep + OVERDUE and sweep <= first and now < first
  and marker - now > GRACE and marker - now <= 315360000000 and not found[2] and not found[3] and now >= from and now < till
  and holds == held_in and not found[own + 1] and (now < sweep or now < (tonumber(sub(lease, 1, 13)) or 0))
  and not (rest_units and (found[own + 3] or found[own + 4] or sweep > now + rest_life or now + rest_life > marker or found[own + 2] and now >= sweep)) then
  local plain, last_gone, begun = true, 1, nil
  for i = 1, now >= sweep and own - FOUND or 0 do
    local has_others = found[3 + i] and found[3 + i] ~= more
    plain = plain and not (has_others and sub(names[name + i], 1, 9) == 'heldextra')
  end
  for i = 2, plain and last_counted or 0 do -- what is counted
    local index = indexes[i]
    local count = found[3 + index]
    local after = next_of and next_of[count]
    if not after then
      if count and i > 2 * windows + 1 then -- settle.lua begins what is damaged there anew
        after = tonumber(count)
        after = after and after + 1
      elseif count then
        after = count + 1 -- a text ends the call here
      elseif i <= 2 * windows + 1 then -- the first one in a window, or of the endpoint there
        after = 1
        if i % 2 == 0 then
          begun = begun or {}
          begun[#begun + 1] = id_at + i
        end
      end
      if not after or after % 1 ~= 0 or after > MOST then
        plain = false
        break
      end
      after = format('%d', after)
      if next_of and count and #count < 5 then -- so few are kept
        next_of[count] = after
      end
    end
    if crossing and crossing[index] and crossing[index][after] then
      plain = false
      break
    end
    found[3 + index] = after
    fields[2 * i] = after
  end
  plain = plain and not (begun and #begun == windows) -- otherwise nothing has kept the key for long enough
  local last, at = 2 * last_counted, last_counted
  if is_weighted then
ADDUNITS
    at = 2 * at - 1
  end
  for i = at + 1, plain and at + 2 * windows or 0 do -- what is held
    local index = indexes[i]
    local count = found[3 + index] or '1'
    local after = false
    if count ~= '1' then
      plain = plain and now < sweep
      after = previous_of and previous_of[count]
      if not after then
        after = count - 1
        plain = plain and after % 1 == 0 and after <= MOST
        after = after > 0 and format('%d', after)
        if previous_of and plain and #count < 5 then
          previous_of[count] = after
        end
      end
    end
    found[3 + index] = after
    if after then
      fields[last + 1], fields[last + 2], last = names[name + index], after, last + 2
    else
      last_gone = last_gone + 1
      gone[last_gone] = names[name + index]
    end
  end
  for i = at + 2 * windows + 1, plain and #indexes or 0 do -- the units of that
    local index, is_alone = indexes[i], not found[3 + indexes[i - 2 * windows]] and not found[own + 2]
    local left = found[3 + index] and tonumber(found[3 + index])
    left = left and left - more -- what others hold
    if not left or left % 1 ~= 0 or left < 0 or left > 0 and is_alone then
      plain = false
      break
    end
    left = left + (rest_units or 0)
    if left > 0 then
      left = format(left > MOST and '%.0f' or '%d', left)
      fields[last + 1], fields[last + 2], last = names[name + index], left, last + 2
    else
      left, last_gone = false, last_gone + 1
      gone[last_gone] = names[name + index]
    end
    found[3 + index] = left
  end
  if plain and rest_units then
    local ends, rests = now + rest_life, tonumber(found[own + 2] or 0)
    plain = rests
    local ms = ends % 1000000
    fields[last + 1], fields[last + 2] = rest_field, format('%d%06d+%d', (ends - ms) / 1000000, ms, rest_units) .. held_in
    fields[last + 3], fields[last + 4], last = 'rests', format('%d', (rests or 0) + 1), last + 4
  end
  if plain and now + call('PTTL', key) >= marker then
    for i = forgotten, last_forgotten do
      last_gone = last_gone + 1
      gone[last_gone] = argv[i]
    end
    if long then
      fields[last + 1], fields[last + 2], last = 'long', long, last + 2
    end
    -- This comes first: a Redis that is out of memory refuses to count, but not after this.
    call('HDEL', key, unpack(gone, 1, last_gone))
    call('HSET', key, unpack(fields, 1, last))
    for i = 1, begun and #begun or 0 do
      call('HSETNX', key, 'retain/' .. ids[begun[i]], ids[begun[i] + 1])
    end
    redis.pcall('PUBLISH', channel or key .. ':changes', '')
    found[1], found[2], found[3], found[own - indexes[1]] = OK, now, 0, nil
    return found
  end
end
