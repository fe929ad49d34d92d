-- Reads what reserve.lua reads, and gives plainreserve.lua, which stands after it, what that takes.

local last_field, limits, where = argv[rest + 2] ~= '' and rest + 2 or rest + 1, rest + 9, argv[rest + 9]
local options, from, till, m, l = argv[rest + 8], argv[4] + 0, argv[5] + 0, argv[6] + 0, argv[7] + 0
unreturned = byte(where) or 0
read = call('HMGET', key, 'sweep', 'plan', 'grants', unpack(argv, 8, last_field))
local sweep, own, channel, next_of, names, name = tonumber(read[1] or 0), FOUND + m, nil, nil, argv, 7
local allowances, first_limit, last_limit = argv, limits + 1, limits + l
local life, holds, most, interval = argv[rest + 3], argv[rest + 4], argv[rest + 5] + 0, argv[rest + 6] + 0
local more = options == '' and '0' or string.match(options, '^0 (%d+) 0 ')
more = more and more + 0
local is_plain = where ~= '' and more and argv[3] == ''
local indexes, half, fields, requests_of = nil, 0, nil, nil
if is_plain then
  indexes = { byte(where, 1, -1) }
  half = more > 0 and (#indexes - 1) / 2 or #indexes - 1
  for i = last_limit + 1, last_arg, 2 do
    requests_of = requests_of or {}
    requests_of[argv[i] + 0] = FOUND + 2 * argv[i + 1] - 2
  end
  -- The table has room for most requests from the beginning: one that grows is copied each time.
  fields = { argv[rest + 2], nil, 'claimed', argv[rest + 7], argv[rest], nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil }
  for i = 2, #indexes do
    fields[2 * i + 3] = argv[7 + indexes[i]]
  end
end
