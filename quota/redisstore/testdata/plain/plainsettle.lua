-- Counts one reservation as settle.lua does, if nothing about it is rare. It stands between common.lua and
-- functions.lua: to create the functions would take Redis a quarter more. What is rare is left to settle.lua, which
-- does the same by the same rules, in more calls.
--
-- Nothing has ended, no assumption is wrong, there are no grants, and the lease holds the request in the windows
-- that run. In each of them, and on the day and in the hour, something was counted before. So it is known when these
-- counts end. The key lives as long as the marker: it need not, if counts were kept for less time before.

local where = ARGV[last_arg]
if where ~= '' then
  local found = call('HMGET', key, 'sweep', 'plan', 'grants', unpack(ARGV, 8, rest + 1))
  local lease, sweep, plain = found[FOUND + ARGV[6]], tonumber(found[1] or 0), true
  local w, windows, first, marker = rest + 4, ' ' .. ARGV[rest + 3], nil, nil
  local last_window = w + 2 * ARGV[w]
  for i = w + 1, last_arg - 3, 2 do -- the windows; then the day and the hour
    local ends, nth = ARGV[i + 1] + 0, 2 * (i - w) -- the index in where of what is counted
    if i < last_window then
      windows = windows .. ' ' .. ARGV[i]
    else
      nth = 2 * (last_window - w) + (i - last_window + 3) / 2
    end
    first = first and first < ends and first or ends
    if not marker or ends > marker + 0 then
      marker = ARGV[i + 1]
    end
    local before = plain and found[FOUND - 1 + string.byte(where, nth)]
    plain = before and before % 1 == 0 and before + 0 < 1e15 -- or it is damaged; a text ends the script here
  end
  if plain and sweep and now < sweep and sweep <= first and marker - now > 600000 and marker - now <= 315360000000
    and not found[2] and not found[3] and assumed_override == '' and not assumed_terms and now >= ARGV[4] + 0 and now < ARGV[5] + 0
    and lease and string.sub(lease, 14) == windows and not found[FOUND + ARGV[6] + 1]
    and now + call('PTTL', key) >= marker + 0 then
    local last_where = 1 + 4 * ARGV[w] -- the last index in where of what is counted and held in windows
    -- The tables have room for most requests from the beginning: one that grows is copied each time.
    local gone, last_gone = { ARGV[rest], nil, nil, nil, nil }, 1
    local fields, last = { ARGV[rest + 1], marker, nil, nil, nil, nil, nil, nil, nil, nil }, 2
    for i = 2, #where do
      local index = string.byte(where, i)
      local field, at = ARGV[7 + index], FOUND - 1 + index
      local is_held = i % 4 < 2 and i <= last_where
      local count = (found[at] or 0) + (is_held and -1 or 1)
      if count > 0 then
        found[at] = count
        fields[last + 1], fields[last + 2], last = field, count, last + 2
      else
        found[at] = false
        gone[last_gone + 1], last_gone = field, last_gone + 1
      end
    end
    -- This comes first: a Redis that is out of memory refuses to count, but not after this.
    call('HDEL', key, unpack(gone, 1, last_gone))
    call('HSET', key, unpack(fields, 1, last))
    redis.pcall('PUBLISH', key .. ':changes', '')
    return { OK, now, expired, unpack(found, FOUND, FOUND + rest - 9 - string.byte(where)) }
  end
end
