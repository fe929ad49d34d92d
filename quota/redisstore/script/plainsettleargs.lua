-- Gives plainsettle.lua, which stands after it, what that takes.

local where, sub = argv[last_arg], string.sub
local is_plain = where ~= '' and assumed_override == '' and not assumed_terms
local found, indexes, fields, gone, sweep = nil, nil, nil, nil, nil
local windows, last_counted, held_in, first, marker, marker_text, ids, id_at = 0, 1, nil, nil, 0, nil, argv, rest + 3
local is_weighted, extra, rest_units, rest_life, rest_field = false, nil, nil, nil, nil
local forgotten, last_forgotten = last_arg - 1 - argv[last_arg - 1], last_arg - 2
if is_plain then
  found = call('HMGET', key, 'sweep', 'plan', 'grants', unpack(argv, 8, rest + 1))
  sweep = tonumber(found[1] or 0)
  local w = rest + 4
  windows, held_in = argv[w] + 0, ' ' .. argv[rest + 3]
  for i = w + 1, forgotten - 2, 2 do -- the windows; then the day and the hour
    local ends = argv[i + 1] + 0
    last_counted = last_counted + 1
    if i <= w + 2 * windows then
      held_in, last_counted = held_in .. ' ' .. argv[i], last_counted + 1
    end
    if not first or ends < first then
      first = ends
    end
    if ends > marker then
      marker, marker_text = ends, argv[i + 1]
    end
  end
  is_plain = marker_text
  indexes = { byte(where, 1, -1) }
  is_weighted, extra = #indexes > last_counted + 2 * windows, argv[rest + 2] + 0
  -- The tables have room for most requests from the beginning: one that grows is copied each time.
  gone = { argv[rest], nil, nil, nil, nil, nil, nil, nil }
  fields = { argv[rest + 1], marker_text, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil }
  for i = 2, last_counted do
    fields[2 * i - 1] = argv[7 + indexes[i]]
  end
end
local from, till, own, names, name = argv[4] + 0, argv[5] + 0, rest - 8 + FOUND, argv, 7
local crossing, long, channel, next_of, previous_of = nil, nil, nil, nil, nil
