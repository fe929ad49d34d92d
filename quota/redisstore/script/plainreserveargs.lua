-- Reads what reserve.lua reads, and gives plainreserve.lua, which stands after it, what that takes.

local last_field, limits, where = argv[rest + 2] ~= '' and rest + 2 or rest + 1, rest + 9, argv[rest + 9]
local options, from, till, m, l = argv[rest + 8], argv[4] + 0, argv[5] + 0, argv[6] + 0, argv[7] + 0
unreturned = byte(where) or 0
read = call('HMGET', key, 'sweep', 'plan', 'grants', unpack(argv, 8, last_field))
local sweep, own, channel, next_of = tonumber(read[1] or 0), FOUND + m, nil, nil
local allowances, first_limit, last_limit = argv, limits + 1, limits + l
local life, holds, most, interval = argv[rest + 3], argv[rest + 4], argv[rest + 5] + 0, argv[rest + 6] + 0
local is_plain = where ~= '' and options == '' and last_arg == last_limit and argv[3] == ''
local indexes, fields = nil, nil
if is_plain then
  indexes = { byte(where, 1, -1) }
  -- The table has room for most requests from the beginning: one that grows is copied each time.
  fields = { argv[rest + 2], nil, 'claimed', argv[rest + 7], argv[rest], nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil }
  for i = 2, #indexes do
    fields[2 * i + 3] = argv[7 + indexes[i]]
  end
end
