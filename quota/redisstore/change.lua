-- Makes a change as an administrator wants it, and writes it into the user's audit
-- list. A change that has an id is made once.
--
--   ARGV[rest]      n, how many windows the change concerns; n times:
--     id, retain    a window that holds, and when its counts may be deleted
--   ARGV[own]       after them, the change's id, empty: none
--   ARGV[own + 1]   its fingerprint, of letters, digits, - and _
--   ARGV[own + 2]   the change, as JSON on one line, for the audit list
--   ARGV[own + 3]   how long the audit list is kept, ms
--   ARGV[own + 4]   the longest audit list, in entries
--   ARGV[own + 5]   how long an id is known, ms
--   ARGV[own + 6]   how many ids there may be
--   ARGV[own + 7]   the most that a grant or a count may come to
--   ARGV[own + 8]   the action, then its arguments, see below
--
-- Codes: OK, OUTDATED, and if nothing has changed CONFLICT (the id is that of another
-- change), IDS (there are too many), NOLIMIT, TOOMANY (a grant or a count would exceed
-- the most). The view has no counters.

local CONFLICT, IDS, NOLIMIT, TOOMANY = 10, 11, 12, 13

local windows, own = {}, rest + 1
for i = 1, tonumber(ARGV[rest]) do
  windows[i] = { id = ARGV[own], retain = tonumber(ARGV[own + 1]) }
  own = own + 2
end

local grants = look()[3]
local all, last = clean()
local id, fingerprint, entry = ARGV[own], ARGV[own + 1], ARGV[own + 2]
local most, action = tonumber(ARGV[own + 7]), ARGV[own + 8]
local first = own + 9 -- of the action's arguments

if id ~= '' then
  local known = call('HGET', key, 'once/' .. id)
  if known then
    return answer(string.match(known, ' (.*)$') == fingerprint and OK or CONFLICT, {}, 1)
  end
  local ids = 0
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 5) == 'once/' and ends(all[i + 1]) > now then
      ids = ids + 1
    end
  end
  if ids >= tonumber(ARGV[own + 6]) then
    return answer(IDS, {}, 1)
  end
end
if outdated then
  return mismatch()
end

-- keep has the counts of the view's only window stay as long as they should.
local function keep()
  local retain = windows[1].retain
  call('HSETNX', key, 'retain/' .. windows[1].id, text(retain))
  expire(retain, retain)
end

-- put sets a number; what is 0 takes no room.
local function put(field, n)
  if n > 0 then
    call('HSET', key, field, text(n))
  else
    call('HDEL', key, field)
  end
end

-- Each returns a code when it changes nothing, else nil.
local actions = {}

-- Arguments: the counter of the limit, W or W/E, empty when there is no such limit; the
-- units. The view has the limit's window.
function actions.grant()
  if ARGV[first] == '' then
    return NOLIMIT
  end
  local field = 'grant/' .. ARGV[first]
  local granted = tonumber(call('HGET', key, field) or 0) + ARGV[first + 1]
  if granted > most then
    return TOOMANY
  end
  put(field, granted)
  keep()
  if windows[1].retain > tonumber(grants or 0) then
    call('HSET', key, 'grants', text(windows[1].retain))
  end
end

-- The view has the windows to reset.
function actions.reset()
  local running = {}
  for i = 1, #windows do
    running[windows[i].id] = true
  end
  for i = 1, #all, 2 do
    local window = string.match(all[i], '^used/([^/]+)')
    if window and running[window] then
      call('HDEL', key, all[i])
    end
  end
end

-- Arguments: when the override ends, 0: never; the plan's name.
function actions.set_plan()
  local till = tonumber(ARGV[first])
  forever = till == 0
  if forever then
    call('HSET', key, 'plan', '0 ' .. ARGV[first + 1])
    call('PERSIST', key)
  elseif till <= now then
    call('HDEL', key, 'plan')
  else
    call('HSET', key, 'plan', text(till) .. ' ' .. ARGV[first + 1])
    expire(till, till)
  end
end

function actions.clear_plan()
  forever = false
  call('HDEL', key, 'plan')
end

-- Arguments: for each endpoint its name, and what is used of it. The view has the
-- window.
function actions.set_counts()
  local total = 'used/' .. windows[1].id
  local sum = tonumber(call('HGET', key, total) or 0)
  for i = first, #ARGV, 2 do
    sum = sum + ARGV[i + 1] - (call('HGET', key, total .. '/' .. ARGV[i]) or 0)
  end
  if sum > most then
    return TOOMANY
  end
  for i = first, #ARGV, 2 do
    put(total .. '/' .. ARGV[i], tonumber(ARGV[i + 1]))
  end
  put(total, sum)
  keep()
end

local code = actions[action]()
if code then
  return answer(code, {}, 1)
end

-- The audit list stays as long as its newest entry; who reads it leaves out those that
-- are older than they should be.
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
call('HSET', key, 'user', ARGV[2], 'audit', text(until_audit) .. '\n' .. text(now) .. ' ' .. entry .. audit)
expire(until_audit, until_audit)
if id ~= '' then
  local known = now + ARGV[own + 5]
  call('HSET', key, 'once/' .. id, text(known) .. ' ' .. fingerprint)
  expire(known, known)
end
if last then
  live(last) -- it may have had no end until now
end
changed = true
return answer(OK, {}, 1)
