-- Counts what an account uses in each hour, by endpoint, for the scripts that count or bill it. It stands after
-- common.lua; a script for which nothing is kept for bills need not pay for it.
--
-- A plain request costs no call more. In settle.lua, units beyond the 1 of a request cost two HINCRBY. The first request of an
-- hour moves what the hour before has counted into one field, bills: as with the days of a history, a field for each hour would
-- make all requests slower. The field is as long as the field days, for the same reason.

local HOUR = 3600000 -- ms
local LONG_BILLS = '%-65s' -- the format of the field bills: blanks follow it if it is shorter

-- Returns the field bills as a table; nil: it is not there, or is damaged.
local function parse_bills(text)
  if text and #text == 65 then -- only then there may be blanks
    text = string.gsub(text, ' +$', '')
  end
  local till, revision, newest, endpoints, lines = string.match(text or '', '^(%d+) (%d+) (%d+)([^\n]*)(.*)$')
  if till then
    return { till = tonumber(till), revision = tonumber(revision), newest = tonumber(newest), endpoints = endpoints, lines = lines }
  end
end

-- Sets the field bills. With hours, which is how many are kept, lines of those that end by now are left out.
local function write_bills(bills, hours)
  local oldest, lines = hours and math.floor(now / HOUR) - hours, bills.lines
  if oldest then
    lines = string.gsub(lines, '\n#?(%d+)[^\n]*', function(hour)
      if tonumber(hour) <= oldest then
        return ''
      end
    end)
  end
  call('HSET', key, 'bills', string.format(LONG_BILLS, format_time(bills.till) .. ' ' .. format_time(bills.revision) .. ' ' ..
    format_time(bills.newest) .. bills.endpoints .. lines))
end

-- Adds what was counted of an endpoint in an hour to its line of those that are in no bill.
local function add_line(lines, hour, name, requests, extra)
  local start, tail = '\n' .. hour .. ' ' .. name .. ' ', ''
  local from, to = string.find(lines, start, 1, true)
  if from then
    local r, x, after = string.match(lines, '^(%d+)([+-]?%d*)(.*)$', to + 1)
    lines, tail = string.sub(lines, 1, from - 1), after or ''
    requests, extra = requests + (r or 0), extra + (tonumber(x) or 0)
  end
  return lines .. start .. format_time(requests) .. (extra ~= 0 and string.format('%+.0f', extra) or '') .. tail
end

-- Adds what the fields of an hour have counted of some endpoints, " E E ...", to the lines. Unless they are
-- only read, the fields are deleted.
local function move_hour(lines, hour, endpoints, only_read)
  local names, fields = {}, {}
  for name in string.gmatch(endpoints, '%S+') do
    names[#names + 1] = name
    fields[#fields + 1] = 'bill/' .. format_time(hour) .. '/' .. name
    fields[#fields + 1] = 'billextra/' .. format_time(hour) .. '/' .. name
  end
  if #names == 0 then
    return lines
  end
  local counts = call('HMGET', key, unpack(fields))
  if not only_read then
    call('HDEL', key, unpack(fields))
  end
  for i = 1, #names do
    local n = {}
    for j = 1, 2 do -- 0 if there is none, or if it is damaged
      n[j] = tonumber(string.match(counts[2 * i - 2 + j] or '', '^-?%d+$') or 0)
      n[j] = math.abs(n[j]) < 2 ^ 53 and n[j] or 0
    end
    n[1] = math.max(0, n[1])
    if n[1] ~= 0 or n[2] ~= 0 then
      lines = add_line(lines, format_time(hour), names[i], n[1], n[2])
    end
  end
  return lines
end

-- Notes, in bills, that something was counted in a field bill/H/E for the first time. ends is when the numbers
-- of this hour end, in ms: those of each hour live as long.
local function note_hour(field, ends)
  local hour, endpoint = string.match(field, '^bill/(%d+)/(.*)$')
  hour = tonumber(hour)
  local bills = parse_bills(call('HGET', key, 'bills')) or { till = ends, revision = 0, newest = hour, endpoints = '', lines = '' }
  bills.till = math.max(bills.till, ends)
  local hours = nil -- with many lines, to leave some out takes longer than the rest, so it is done once a day
  if hour == bills.newest then
    if not string.find(bills.endpoints .. ' ', ' ' .. endpoint .. ' ', 1, true) then
      bills.endpoints = bills.endpoints .. ' ' .. endpoint
    end
  elseif hour < bills.newest then -- it is late
    bills.lines = move_hour(bills.lines, hour, endpoint)
  else
    if math.floor(hour / 24) > math.floor(bills.newest / 24) then
      hours = math.floor(ends / HOUR) - hour
    end
    bills.lines = move_hour(bills.lines, bills.newest, bills.endpoints)
    bills.newest, bills.endpoints = hour, ' ' .. endpoint
  end
  write_bills(bills, hours)
end
