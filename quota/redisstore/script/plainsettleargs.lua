-- Gives plainsettle.lua, which stands after it, what that takes.

local where = argv[last_arg]
local is_plain = where ~= '' and assumed_override == '' and not assumed_terms
local found, windows, held_in, first, marker, marker_text = {}, 0, nil, 0, 0, nil
local forgotten, last_forgotten = last_arg - 1 - argv[last_arg - 1], last_arg - 2
if is_plain then
  found = call('HMGET', key, 'sweep', 'plan', 'grants', unpack(argv, 8, rest + 1))
  local w = rest + 4
  windows, held_in, first = argv[w] + 0, ' ' .. argv[rest + 3], nil
  for i = w + 1, forgotten - 2, 2 do -- the windows; then the day and the hour
    local ends = argv[i + 1] + 0
    if i <= w + 2 * windows then
      held_in = held_in .. ' ' .. argv[i]
    end
    if not first or ends < first then
      first = ends
    end
    if ends > marker then
      marker, marker_text = ends, argv[i + 1]
    end
  end
  is_plain = marker_text
end
local from, till, m = argv[4] + 0, argv[5] + 0, argv[6] + 0
local before, own, names, name = FOUND - 1, FOUND + m, argv, 7
local indexes, lease_name, marker_name, crossing, long = { byte(where, 1, -1) }, argv[rest], argv[rest + 1], nil, nil
