-- Returns what the terms of an account depend on. It has no arguments of its own (terms.go).
--
-- The code is always OUTDATED, and its text has three lines: the plan override; the terms; the number
-- of leases and rests and then, separated by blanks, the windows in which something is counted or granted.

read_fields()
local held, windows = read_activity()
terms = (terms or '') .. '\n' .. held .. ' ' .. table.concat(windows, ' ')
return reply_outdated()
