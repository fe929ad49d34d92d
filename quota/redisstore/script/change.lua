-- Makes a change that an administrator wants, and adds it to the user's audit log. A change
-- that has an id is made once. Its own arguments (change.go builds them):
--
--   ARGV[rest]      n, the number of windows that the change concerns, 0 or more; then n times:
--     id            the id of a window that the gateway assumes to run
--     retain        when its counts end, in ms
--   ARGV[own]       right after them: the change's id, 1 to 256 bytes; empty: none
--   ARGV[own + 1]   the change's fingerprint, of letters, digits, - and _
--   ARGV[own + 2]   the change as JSON on one line, for the audit log
--   ARGV[own + 3]   how long the audit log is kept, in ms
--   ARGV[own + 4]   the most entries of the audit log
--   ARGV[own + 5]   how long an id is remembered, in ms
--   ARGV[own + 6]   the most ids that are remembered
--   ARGV[own + 7]   the most that a grant or a count may come to
--   ARGV[own + 8]   "N ENDS": the date of today, and when its numbers in the history end, in ms; empty:
--                   there is no history
--   ARGV[own + 9]   the action: grant, reset, set_plan, clear_plan, set_anchor, clear_anchor or
--                   set_counts; then its arguments, which stand above its function
--
-- Codes: OK; OUTDATED; and, if nothing has changed:
--
--   CONFLICT  the id belongs to another change
--   IDS       too many ids are remembered
--   NOLIMIT   the plan has no such limit
--   TOOMANY   a grant or a count would exceed the most
--
-- RECORDED of crossings.lua may be added to OK. It stands before this script if plans have thresholds; otherwise a line
-- that says so. Then the thresholds are those of the plan before the change, or of set_plan and clear_plan
-- those of the plan after it; and the limits are the account's own ones that the change may take to a threshold.
--
-- It takes no fields of counts (ARGV[6] is 0).

local CONFLICT, IDS, NOLIMIT, TOOMANY = 10, 11, 12, 13

local windows, own = {}, rest + 1
for i = 1, tonumber(ARGV[rest]) do
  windows[i] = { id = ARGV[own], retain = tonumber(ARGV[own + 1]) }
  own = own + 2
end

local grants = read_fields()[3]
if pool then -- whose plan override decides about the plan
  read_pool()
end
local all, last = delete_ended()
local id, fingerprint, entry = ARGV[own], ARGV[own + 1], ARGV[own + 2]
local most, action = tonumber(ARGV[own + 7]), ARGV[own + 9]
local today, day_ends = string.match(ARGV[own + 8], '^(%d+) (%d+)$')
local first = own + 10 -- of the action's arguments

if id ~= '' then
  local known = call('HGET', key, 'once/' .. id)
  if known then
    return reply_with(string.match(known, ' (.*)$') == fingerprint and OK or CONFLICT, {}, 1)
  end
  local ids = 0
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 5) == 'once/' and time_of(all[i + 1]) > now then
      ids = ids + 1
    end
  end
  if ids >= tonumber(ARGV[own + 6]) then
    return reply_with(IDS, {}, 1)
  end
end
if outdated then
  return reply_outdated()
end

-- Keeps the counts of the only window for as long as they should stay.
local function keep_counts()
  local retain = windows[1].retain
  call('HSETNX', key, 'retain/' .. windows[1].id, format_time(retain))
  note_ends(retain, retain)
end

-- Notes that counts of a window were taken down: if they reach a threshold again, that is another crossing.
local function rearm(window)
  if record_crossings and first_alert > highest then
    call('HINCRBY', key, 'rearmed/' .. window, 1)
  end
end

-- Notes that the account counts by another plan: what its counts have reached, or reach, under that is another
-- crossing. The windows are those that run, or there are none if the plan stays, or has no thresholds.
local function rearm_counted()
  for i = 1, #windows do
    local counts = call('HMGET', key, 'used/' .. windows[i].id, 'extra/' .. windows[i].id)
    if tonumber(counts[1] or 0) ~= 0 or tonumber(counts[2] or 0) ~= 0 then
      call('HINCRBY', key, 'rearmed/' .. windows[i].id, 1)
    end
  end
end

-- Sets a number. A 0 is deleted, to save memory.
local function set_number(field, n)
  if n ~= 0 then
    call('HSET', key, field, format_time(n))
  else
    call('HDEL', key, field)
  end
end

-- Removes from the lines of days what was counted of an endpoint today; nil: of all endpoints. It is there if a
-- later day is the newest one: the time zone has moved west, or Redis's clock was ahead.
local function clear_lines(endpoint)
  local days = string.gsub(call('HGET', key, 'days') or '', ' +$', '')
  local left = string.gsub(days, '\n(%S+) (%d+) ([^\n]*)', function(name, date, counts)
    if endpoint and name ~= endpoint then
      return nil -- as it is
    end
    date = tonumber(date)
    local first = date
    counts = string.gsub(counts .. ',', '[^,]*,', function()
      date = date + 1
      return date - 1 == tonumber(today) and ',' or nil
    end)
    counts = string.gsub(counts, ',+$', '')
    return counts == '' and '' or '\n' .. name .. ' ' .. format_time(first) .. ' ' .. counts
  end)
  if left ~= days then
    call('HSET', key, 'days', string.format(LONG, left))
  end
end

-- Each action returns a code if it changes nothing, and nil if it has changed something.
local actions = {}

-- Arguments: the field of the limit, grant/W or unitgrant/W/E and so on, empty if there is no such
-- limit; what to add, 1 or more. The only window is the limit's.
function actions.grant()
  if ARGV[first] == '' then
    return NOLIMIT
  end
  local field = ARGV[first]
  local granted = tonumber(call('HGET', key, field) or 0) + ARGV[first + 1]
  if granted > most then
    return TOOMANY
  end
  set_number(field, granted)
  keep_counts()
  if windows[1].retain > tonumber(grants or 0) then
    call('HSET', key, 'grants', format_time(windows[1].retain))
  end
end

-- No arguments. The windows are those to reset. So is today.
function actions.reset()
  local running, fallen = {}, {}
  for i = 1, #windows do
    running[windows[i].id] = true
  end
  for i = 1, #all, 2 do
    local window = string.match(all[i], '^used/([^/]+)') or string.match(all[i], '^extra/([^/]+)')
    local date = string.match(all[i], '^day/(%d+)/') or string.match(all[i], '^dayextra/(%d+)/')
    if window and running[window] or date and date == today then
      call('HDEL', key, all[i])
      if window then
        fallen[window] = true
      end
    end
  end
  for window in pairs(fallen) do
    rearm(window)
  end
  if today then
    clear_lines()
  end
end

-- Arguments: when the override ends, in ms, 0: never; the plan's name. The windows are those to re-arm.
function actions.set_plan()
  rearm_counted()
  local till = tonumber(ARGV[first])
  forever = till == 0
  if forever then
    call('HSET', key, 'plan', '0 ' .. ARGV[first + 1])
    call('PERSIST', key)
  elseif till <= now then
    call('HDEL', key, 'plan')
  else
    call('HSET', key, 'plan', format_time(till) .. ' ' .. ARGV[first + 1])
    note_ends(till, till)
  end
end

-- No arguments. The windows are those to re-arm.
function actions.clear_plan()
  rearm_counted()
  forever = false
  call('HDEL', key, 'plan')
end

-- Arguments: the terms of the account, which follow from those that the gateway assumes; n: no lease, and
-- n windows, must be there; -: whatever there is.
function actions.set_anchor()
  if not activity_is(ARGV[first + 1]) then
    return OUTDATED
  end
  if ARGV[first] ~= '' then
    call('HSET', key, 'terms', ARGV[first])
  else
    call('HDEL', key, 'terms')
  end
end
actions.clear_anchor = actions.set_anchor

-- Arguments: for each endpoint its name, the requests to set its count to, 0 or more, and by how
-- much their units exceed that. The only window is the one to set. If it is a day, and there is a history,
-- the date is given.
function actions.set_counts()
  local window = '/' .. windows[1].id
  local used = tonumber(call('HGET', key, 'used' .. window) or 0)
  local extra = tonumber(call('HGET', key, 'extra' .. window) or 0)
  local lower = false
  for i = first, last_arg, 3 do
    local requests = ARGV[i + 1] - (call('HGET', key, 'used' .. window .. '/' .. ARGV[i]) or 0)
    local more = ARGV[i + 2] - (call('HGET', key, 'extra' .. window .. '/' .. ARGV[i]) or 0)
    used, extra, lower = used + requests, extra + more, lower or requests < 0 or requests + more < 0
  end
  if used > most or used + extra > most then
    return TOOMANY
  end
  for i = first, last_arg, 3 do
    set_number('used' .. window .. '/' .. ARGV[i], tonumber(ARGV[i + 1]))
    set_number('extra' .. window .. '/' .. ARGV[i], tonumber(ARGV[i + 2]))
  end
  set_number('used' .. window, used)
  set_number('extra' .. window, extra)
  keep_counts()
  if lower then
    rearm(windows[1].id)
  end
  for i = first, today and last_arg or 0, 3 do
    local field = 'day/' .. today .. '/' .. ARGV[i]
    set_number(field, tonumber(ARGV[i + 1]))
    set_number('dayextra' .. string.sub(field, 4), tonumber(ARGV[i + 2]))
    clear_lines(ARGV[i])
    note_day(field, tonumber(day_ends))
    note_ends(tonumber(day_ends), tonumber(day_ends))
  end
end

local before = {} -- what is used of each limit, by its first argument
for at = first_alert or 1, last_alert_arg or 0, ALERT_ARGS do
  before[at] = read_limit(at)
end
local code = actions[action]()
if code then
  return reply_with(code, {}, 1)
end
local crossings = record_crossings and record_crossings({}, before) or 0

-- The audit log stays as long as its newest entry. A gateway that reads it leaves out the
-- entries that are too old.
local audit = string.match(call('HGET', key, 'audit') or '', '(\n.*)$') or ''
local n, cut = 1, nil
for at in string.gmatch(audit, '()\n') do
  n = n + 1
  if n > tonumber(ARGV[own + 4]) then
    cut = at
    break
  end
end
if cut then
  audit = string.sub(audit, 1, cut - 1)
end
local until_audit = now + ARGV[own + 3]
call('HSET', key, 'user', ARGV[2], 'audit', format_time(until_audit) .. '\n' .. format_time(now) .. ' ' .. entry .. audit)
note_ends(until_audit, until_audit)
if id ~= '' then
  local known_until = now + ARGV[own + 5]
  call('HSET', key, 'once/' .. id, format_time(known_until) .. ' ' .. fingerprint)
  note_ends(known_until, known_until)
end
if last then
  keep_key_until(last) -- the key may have had no expiry until now
end
changed = true
return reply_with(OK + crossings, {}, 1)
