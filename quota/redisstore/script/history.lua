-- Returns the history of an account. It has no arguments of its own (history.go). days.lua does not stand
-- before it.
--
-- The code is always OUTDATED, and its text is the plan override; then the field days, maybe with blanks at
-- its end; then a line for each endpoint of the newest day, as in days.

read_fields()
terms = call('HGET', key, 'days') or ''
local date, endpoints = string.match(terms, '^%d+ (%d+)([^\n]*)')
local names, fields = {}, {}
for name in string.gmatch(endpoints or '', '%S+') do
  names[#names + 1] = name
  fields[#fields + 1] = 'day/' .. date .. '/' .. name
  fields[#fields + 1] = 'dayextra/' .. date .. '/' .. name
end
if #fields > 0 then
  local counts, text = call('HMGET', key, unpack(fields)), { terms }
  for i = 1, #names do
    local extra = counts[2 * i] or '0'
    if extra ~= '0' and string.byte(extra) ~= 45 then
      extra = '+' .. extra
    end
    text[#text + 1] = '\n' .. names[i] .. ' ' .. date .. ' ' .. (counts[2 * i - 1] or '0') .. (extra ~= '0' and extra or '')
  end
  terms = table.concat(text)
end
return reply_outdated()
