-- Drops bills of an account. hours.lua stands before it. Its own arguments (bills.go builds them):
--
--   ARGV[rest]      how many hours are kept, 1 or more
--   ARGV[rest + i]  "HOUR ENDPOINT REVISION" of bill i; one that is not there changes nothing
--
-- The code is OK.

local bills = parse_bills(read_fields('bills')[FOUND])
if bills then
  local ended = {}
  for i = rest + 1, last_arg do
    ended[ARGV[i]] = true
  end
  local lines = string.gsub(bills.lines, '\n#(%d+) (%S+) %S+ (%d+)', function(hour, endpoint, revision)
    if ended[hour .. ' ' .. endpoint .. ' ' .. revision] then
      return ''
    end
  end)
  if lines ~= bills.lines then
    bills.lines = lines
    write_bills(bills, tonumber(ARGV[rest]))
  end
end
return reply_with(OK, {}, 1)
