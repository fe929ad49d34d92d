-- Makes bills of what an account has counted in some hours, and returns those of these hours that were not
-- ended. Sent twice, it makes them once. hours.lua stands before it. It does not need the account's id.
-- Its own arguments (bills.go builds them):
--
--   ARGV[rest]      the first hour, 0 or more: the hours of UTC since 1970
--   ARGV[rest + 1]  the one after the last hour
--   ARGV[rest + 2]  how many hours are kept, 1 or more
--   ARGV[rest + 3]  1: make no bills, and return those that would be made as well; or 0
--   ARGV[rest + 4]  how long the last revision is remembered, in ms
--
-- The code is always OUTDATED, and its text is the plan override; then, if there is the field bills, the account's
-- id, and a line for each bill, as in bills; "?" in place of them: the field is damaged.

local found = read_fields('user', 'bills')
local since, before, hours, dry = tonumber(ARGV[rest]), tonumber(ARGV[rest + 1]), tonumber(ARGV[rest + 2]), ARGV[rest + 3] == '1'
local oldest = math.floor(now / HOUR) - hours + 1
local function is_wanted(hour)
  return hour >= since and hour < before and hour >= oldest
end

if not found[FOUND + 1] then
  return reply_outdated()
end
terms = (found[FOUND] or '') .. '\n'
local bills = parse_bills(found[FOUND + 1])
if not bills then
  terms = terms .. '?'
  return reply_outdated()
end
if is_wanted(bills.newest) then
  bills.lines = move_hour(bills.lines, bills.newest, bills.endpoints, dry)
  bills.endpoints = ''
end
local revision, made = format_time(bills.revision + 1), false
bills.lines = string.gsub(bills.lines, '\n(%d+) (%S+) (%S+)', function(hour, endpoint, count)
  if is_wanted(tonumber(hour)) then
    made = true
    return '\n#' .. hour .. ' ' .. endpoint .. ' ' .. count .. ' ' .. revision
  end
end)
if made and not dry then
  bills.revision = bills.revision + 1
  bills.till = math.max(bills.till, now + ARGV[rest + 4])
  write_bills(bills, hours)
  note_ends(bills.till, bills.till)
end
local wanted = {}
for line, hour in string.gmatch(bills.lines, '\n#((%d+)[^\n]*)') do
  if is_wanted(tonumber(hour)) then
    wanted[#wanted + 1] = line
  end
end
terms = terms .. table.concat(wanted, '\n')
return reply_outdated()
