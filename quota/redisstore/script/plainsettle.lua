-- Counts one reservation as settle.lua does, if nothing about it is rare. It stands between common.lua and
-- functions.lua: to create the functions would take Redis a quarter more. What is rare is left to settle.lua, which
-- does the same by the same rules, in more calls.
--
-- Nothing has ended, no assumption is wrong, there are no grants, and the lease holds the request in the windows
-- that run. In each of them, and on the day and in the hour, something was counted before. So it is known when these
-- counts end. The key lives as long as the marker: it need not, if counts were kept for less time before.

local where = argv[last_arg]
if where ~= '' then
  local found = call('HMGET', key, 'sweep', 'plan', 'grants', unpack(argv, 8, rest + 1))
  local own = rest - 4 -- the index of the lease in it
  local lease, sweep, plain = found[own], tonumber(found[1] or 0), true
  local w, windows, first, marker = rest + 4, ' ' .. argv[rest + 3], nil, 0
  local ids = 2 * argv[w] -- how many arguments the windows have, and how many indexes what they hold has
  local forgotten, marker_arg = last_arg - 1 - argv[last_arg - 1], nil
  for i = w + 1, forgotten - 2, 2 do -- the windows; then the day and the hour
    local ends = argv[i + 1] + 0
    if i <= w + ids then
      windows = windows .. ' ' .. argv[i]
    end
    if not first or ends < first then
      first = ends
    end
    if ends > marker then
      marker, marker_arg = ends, i + 1
    end
  end
  if marker_arg and sweep and now < sweep and sweep <= first and marker - now > 600000 and marker - now <= 315360000000
    and not found[2] and not found[3] and assumed_override == '' and not assumed_terms and now >= argv[4] + 0 and now < argv[5] + 0
    and lease and string.sub(lease, 14) == windows and not found[own + 1] then
    -- The tables have room for most requests from the beginning: one that grows is copied each time.
    local gone, last_gone = { argv[rest], nil, nil, nil, nil, nil, nil }, 1
    local fields, last = { argv[rest + 1], argv[marker_arg], nil, nil, nil, nil, nil, nil, nil, nil }, 2
    local indexes, base = { byte(where, 1, -1) }, FOUND - 1
    for i = 2, #indexes - ids do -- what is counted
      local index = indexes[i]
      local count = found[base + index]
      if count then
        count = count + 1 -- a text ends the script here
      elseif i <= ids + 1 and i % 2 == 1 then -- the endpoint's first one in a window
        count = 1
      end
      if not count or count % 1 ~= 0 or count > MOST then
        plain = false
        break
      end
      count = format('%d', count)
      found[base + index], fields[last + 1], fields[last + 2], last = count, argv[7 + index], count, last + 2
    end
    for i = #indexes - ids + 1, plain and #indexes or 0 do -- what is held
      local index = indexes[i]
      local count = (found[base + index] or 0) - 1
      if count > 0 then
        plain = plain and count % 1 == 0 and count <= MOST
        count = format('%d', count)
        found[base + index], fields[last + 1], fields[last + 2], last = count, argv[7 + index], count, last + 2
      else
        found[base + index], gone[last_gone + 1], last_gone = false, argv[7 + index], last_gone + 1
      end
    end
    if plain and now + call('PTTL', key) >= marker then
      for i = forgotten, last_arg - 2 do
        gone[last_gone + 1], last_gone = argv[i], last_gone + 1
      end
      -- This comes first: a Redis that is out of memory refuses to count, but not after this.
      call('HDEL', key, unpack(gone, 1, last_gone))
      call('HSET', key, unpack(fields, 1, last))
      redis.pcall('PUBLISH', key .. ':changes', '')
      return { OK, now, expired, unpack(found, FOUND, own - 1 - indexes[1]) }
    end
  end
end
