-- Returns what the terms of an account depend on. It has no arguments of its own (terms.go).
--
-- The code is always OUTDATED, and its text has three lines: the plan override; the terms; the number
-- of leases and then, separated by blanks, the windows in which something is counted or granted.

read_fields()
local held, windows = 0, {}
local names = call('HGETALL', key)
for i = 1, #names, 2 do
  local kind, window = string.match(names[i], '^(%a+)/(.*)$')
  if kind == 'lease' then
    held = held + 1
  elseif kind == 'retain' then
    windows[#windows + 1] = window
  end
end
terms = (terms or '') .. '\n' .. held .. ' ' .. table.concat(windows, ' ')
return reply_outdated()
