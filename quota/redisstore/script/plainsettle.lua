-- Counts one reservation of one unit as settle.lua does, unless something about it is rare. A rare one is left to
-- settle.lua. These lines stand in the same places as those of plainreserve.lua, which give them:
--
--   is_plain      the gateway assumes no override and no terms
--   now, from, till, sweep, own, indexes, channel, next_of   as for plainreserve.lua; indexes are the last argument of settle.lua
--                 before that of a pool, and found is what is read there
--   previous_of   likewise, texts of numbers and those of the numbers before them
--   windows       how many windows the reservation has
--   held_in       what its lease says after its time: " E W W ..."
--   first         when the first of the counts ends that the request adds to
--   marker, marker_text   when the last of them ends
--   names         names[name + i] is the name of field i of counts
--   fields        names and values to set: done/ID and marker_text, then the fields that are counted, whose values are still missing
--   gone          fields to delete: lease/ID, and ARGV[forgotten] to ARGV[last_forgotten], the markers to delete, are still missing
--   crossing      crossing[i][C]: a threshold is reached when field i of counts reaches C; nil: none ever is
--   long          a value for the field long; nil, false: it stays as it is

-- Nothing has ended, no assumption is wrong, there are no grants, no threshold is reached, and the lease holds the request in the windows
-- that run. In each of them, and on the day and in the hour, something was counted before. So it is known when these
-- counts end. The key must live as long as the marker. It may not, if counts were kept for less time before, or
-- if somebody has changed when it expires.
local lease = is_plain and found[own]
if lease and sweep and now < sweep and sweep <= first and marker - now > GRACE and marker - now <= 315360000000
  and not found[2] and not found[3] and now >= from and now < till
  and sub(lease, 14) == held_in and not found[own + 1] then
  local plain, last_counted, last_gone = true, #indexes - 2 * windows, 1
  for i = 2, last_counted do -- what is counted
    local index = indexes[i]
    local count = found[3 + index]
    local after = next_of and next_of[count]
    if not after then
      if count then
        after = count + 1 -- a text ends the call here
      elseif i <= 2 * windows + 1 and i % 2 == 1 then -- the endpoint's first one in a window
        after = 1
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
  local last = 2 * last_counted
  for i = last_counted + 1, plain and #indexes or 0 do -- what is held
    local index = indexes[i]
    local count = found[3 + index] or '1'
    local after = false
    if count ~= '1' then
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
    redis.pcall('PUBLISH', channel or key .. ':changes', '')
    found[1], found[2], found[3], found[own - indexes[1]] = OK, now, 0, nil
    return found
  end
end
