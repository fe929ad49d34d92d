-- Reads what reserve.lua reads, and gives plainreserve.lua, which stands after it, what that takes.

local last_field, limits, where = argv[rest + 2] ~= '' and rest + 2 or rest + 1, rest + 9, argv[rest + 9]
local options, from, till, m, l = argv[rest + 8], argv[4] + 0, argv[5] + 0, argv[6] + 0, argv[7] + 0
unreturned = byte(where) or 0
read = call('HMGET', key, 'sweep', 'plan', 'grants', unpack(argv, 8, last_field))
local before, own = FOUND - 1, FOUND + m
local bucket, names, name, allowances, allowance = own + 2, argv, 7, argv, limits
local lease_name, bucket_name, life, holds, most, interval, claimed = argv[rest], argv[rest + 2], argv[rest + 3], argv[rest + 4], argv[rest + 5] + 0, argv[rest + 6] + 0, argv[rest + 7]
local is_plain = where ~= '' and options == '' and last_arg == limits + l and argv[3] == ''
local indexes = is_plain and { byte(where, 1, -1) }
