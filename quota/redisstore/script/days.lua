-- Counts the history of an account, by day and endpoint, for the scripts that change or read it. It stands
-- after common.lua; a script for which no history is kept need not pay for it.
--
-- A plain request costs no call more. In settle.lua, units beyond the 1 of a request cost two HINCRBY. The first request of a
-- day moves what the day before has counted into one field, days. With a field for each of 35 days, Redis took 10 % longer to
-- serve a request, and a third longer to sweep.
--
-- The field days always has 65 bytes or more: then Redis keeps the hash as a table (see docs/scale.md), in
-- which it finds a field at once. In a list, the fields of the history made requests 5 to 7 % slower.

local DAY = 86400000 -- ms
local LONG = '%-65s' -- the format of days: blanks follow it if it is shorter

-- Moves what was counted of some endpoints on a date from their fields into lines of days, and leaves out
-- what those have of dates before oldest. Returns the lines.
local function move_counts(lines, date, names, oldest)
  -- Adds what was used on a date to the line of an endpoint in days: { E, F, "C,C,..." }. A line has the
  -- count of each date from F to the last one on which something was used.
  local function add_to_line(line, date, requests, extra)
    local first, counts = line[2], line[3]
    local _, commas = string.gsub(counts, ',', '')
    local at = date - first -- of its count in the line; the first is 0
    local function format_count(r, x)
      return format_time(r) .. (x ~= 0 and string.format('%+.0f', x) or '')
    end
    if at > commas then
      line[3] = counts .. string.rep(',', at - commas) .. format_count(requests, extra)
    elseif at < 0 then
      line[2], line[3] = date, format_count(requests, extra) .. string.rep(',', -at) .. counts
    else
      local i = -1
      counts = string.gsub(counts .. ',', '([^,]*),', function(count)
        i = i + 1
        if i == at then
          local r, x = string.match(count, '^(%d*)(.*)$')
          return format_count((tonumber(r) or 0) + requests, (tonumber(x) or 0) + extra) .. ','
        end
      end)
      line[3] = string.sub(counts, 1, -2)
    end
  end

  -- Returns the count in a field: 0 if there is none, or if it is damaged.
  local function count_in(value)
    local n = tonumber(string.match(value or '', '^-?%d+$') or 0)
    return math.abs(n) < 2 ^ 53 and n or 0
  end

  local fields = {}
  for i = 1, #names do
    fields[2 * i - 1] = 'day/' .. format_time(date) .. '/' .. names[i]
    fields[2 * i] = 'dayextra/' .. format_time(date) .. '/' .. names[i]
  end
  local counts = call('HMGET', key, unpack(fields))
  call('HDEL', key, unpack(fields))
  local all, by_name, text = {}, {}, {}
  for name, first, list in string.gmatch(lines, '\n(%S+) (%d+) ([^\n]*)') do
    local line = { name, tonumber(first), list }
    if math.abs(date - line[2]) < 1000 then -- otherwise it is damaged
      all[#all + 1], by_name[name] = line, line
    end
  end
  for i = 1, #names do
    local name, requests, extra = names[i], math.max(0, count_in(counts[2 * i - 1])), count_in(counts[2 * i])
    if requests ~= 0 or extra ~= 0 then
      if not by_name[name] then
        by_name[name] = { name, date, '' }
        all[#all + 1] = by_name[name]
      end
      add_to_line(by_name[name], date, requests, extra)
    end
  end
  for i = 1, #all do
    local first, list = all[i][2], all[i][3]
    local from = 1
    while from and first < oldest do
      local comma = string.find(list, ',', from, true)
      from, first = comma and comma + 1, first + 1
    end
    if from then
      text[#text + 1] = '\n' .. all[i][1] .. ' ' .. format_time(first) .. ' ' .. string.sub(list, from)
    end
  end
  return table.concat(text)
end

-- Notes, in days, that something was counted in a field day/N/E for the first time. ends is when the
-- numbers of this day end, in ms: those of each day live as long.
local function note_day(field, ends)
  local date, endpoint = string.match(field, '^day/(%d+)/(.*)$')
  date = tonumber(date)
  local days = string.gsub(call('HGET', key, 'days') or '', ' +$', '')
  local head, newest, endpoints, lines = string.match(days, '^(%d+ (%d+))([^\n]*)(.*)$')
  newest = tonumber(newest)
  if newest == date then
    if not string.find(endpoints .. ' ', ' ' .. endpoint .. ' ', 1, true) then
      call('HSET', key, 'days', string.format(LONG, head .. endpoints .. ' ' .. endpoint .. lines))
    end
    return
  end
  local over, names = newest, {} -- what is moved into the lines: that of the newest day, or of this one if it is late
  if newest and date < newest then
    over, names = date, { endpoint }
  else
    for name in string.gmatch(endpoints or '', '%S+') do
      names[#names + 1] = name
    end
    head, endpoints, lines = format_time(ends) .. ' ' .. format_time(date), ' ' .. endpoint, lines or ''
  end
  if #names > 0 then
    lines = move_counts(lines, over, names, math.floor((now - (ends - DAY * date)) / DAY) + 1)
  end
  call('HSET', key, 'days', string.format(LONG, head .. endpoints .. lines))
end
