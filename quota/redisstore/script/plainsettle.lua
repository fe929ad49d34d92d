-- Counts one reservation of one unit as settle.lua does, unless something about it is rare. A rare one is left to
-- settle.lua. These lines stand in the same places as those of plainreserve.lua, which give them:
--
--   is_plain      the gateway assumes no override and no terms
--   now, from, till, before, own, names, name, m   as for plainreserve.lua; found is its read
--   indexes       the last argument of settle.lua before that of a pool, as a list of numbers
--   lease_name, marker_name   ARGV[rest] and ARGV[rest + 1]
--   windows       how many windows the reservation has
--   held_in       what its lease says after its time: " E W W ..."
--   first         when the first of the counts ends that the request adds to
--   marker, marker_text       when the last of them ends
--   crossing      crossing[i][C]: a threshold is reached when field i of counts reaches C; nil: none ever is
--   long          a value for the field long; nil, false: it stays as it is
--   forgotten, last_forgotten ARGV[forgotten] to ARGV[last_forgotten] are the markers to delete
--
-- Nothing has ended, no assumption is wrong, there are no grants, no threshold is reached, and the lease holds the request in the windows
-- that run. In each of them, and on the day and in the hour, something was counted before. So it is known when these
-- counts end. The key lives as long as the marker: it need not, if counts were kept for less time before.

local lease, sweep = found[own], tonumber(found[1] or 0)
if is_plain and sweep and now < sweep and sweep <= first and marker - now > 600000 and marker - now <= 315360000000
  and not found[2] and not found[3] and now >= from and now < till
  and lease and string.sub(lease, 14) == held_in and not found[own + 1] then
  -- The tables have room for most requests from the beginning: one that grows is copied each time.
  local plain, gone, last_gone = true, { lease_name, nil, nil, nil, nil, nil, nil }, 1
  local fields, last = { marker_name, marker_text, nil, nil, nil, nil, nil, nil, nil, nil }, 2
  local last_counted = #indexes - 2 * windows
  for i = 2, last_counted do -- what is counted
    local index = indexes[i]
    local count = found[before + index]
    if count then
      count = count + 1 -- a text ends the call here
    elseif i <= 2 * windows + 1 and i % 2 == 1 then -- the endpoint's first one in a window
      count = 1
    end
    if not count or count % 1 ~= 0 or count > MOST then
      plain = false
      break
    end
    count = format('%d', count)
    if crossing and crossing[index] and crossing[index][count] then
      plain = false
      break
    end
    found[before + index], fields[last + 1], fields[last + 2], last = count, names[name + index], count, last + 2
  end
  for i = last_counted + 1, plain and #indexes or 0 do -- what is held
    local index = indexes[i]
    local count = (found[before + index] or 0) - 1
    if count > 0 then
      plain = plain and count % 1 == 0 and count <= MOST
      count = format('%d', count)
      found[before + index], fields[last + 1], fields[last + 2], last = count, names[name + index], count, last + 2
    else
      found[before + index], gone[last_gone + 1], last_gone = false, names[name + index], last_gone + 1
    end
  end
  if plain and now + call('PTTL', key) >= marker then
    for i = forgotten, last_forgotten do
      gone[last_gone + 1], last_gone = argv[i], last_gone + 1
    end
    if long then
      fields[last + 1], fields[last + 2], last = 'long', long, last + 2
    end
    -- This comes first: a Redis that is out of memory refuses to count, but not after this.
    call('HDEL', key, unpack(gone, 1, last_gone))
    call('HSET', key, unpack(fields, 1, last))
    redis.pcall('PUBLISH', key .. ':changes', '')
    return { OK, now, 0, unpack(found, before + 1, before + m - indexes[1]) }
  end
end
