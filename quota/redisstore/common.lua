-- What the scripts share; it stands before each of them.
--
-- All that Redis knows of a user is one hash, KEYS[1]. One key, because then a
-- script is atomic in Redis Cluster too while the key's slot moves between nodes.
--
--   user                  the user's id as the token had it
--   claimed               the plan by his token when he was last admitted
--   used/W   used/W/E     requests counted in window W: all, of endpoint E
--   held/W   held/W/E     units held in window W: all, of endpoint E
--   lease/ID              a hold: "EXPIRY E W W ...": when it ends, what it holds
--   done/ID               a marker: this reservation is settled; until when it stays
--   grant/W   grant/W/E   units granted for window W: to the limit on all, on E
--   grants                when the last of these is deleted; not there: there are none
--   plan                  "UNTIL NAME": an administrator's override of the plan; 0 has
--                         no end
--   audit                 "UNTIL", and the audit list, newest first: "\nTIME JSON" each
--   once/ID               "UNTIL FINGERPRINT" of the change that had this ID
--   retain/W              when the counts and grants of window W are deleted
--   sweep                 a time before which nothing expires
--   attempts/N/I          when the user's bucket of N attempts, of which one comes back
--                         every I µs, is full, µs; not there, or in the past: it is
--
-- W is a window's id, "2026-11" say; E an endpoint; all times are milliseconds
-- since 1970 where they are not µs. Nothing relies on Redis's own expiry but the end of
-- the whole key. A key with an override that has no end has none either.
--
-- Every script takes the view that the gateway has of the user:
--
--   ARGV[1]               added to Redis's clock, ms; 0 but in tests
--   ARGV[2]               the user's id, 1 to 256 bytes
--   ARGV[3]               the override that the gateway believes in, as in plan; empty:
--                         none; *: it does not matter
--   ARGV[4], ARGV[5]      from when to when the windows that the gateway believes to hold do
--   ARGV[6]               m, how many fields of counts it wants
--   ARGV[7]               l, how many of their pairs, the first, are those of limits
--   from ARGV[8] on       these fields, in pairs: used/W, held/W or used/W/E, held/W/E
--   from ARGV[rest] on    the script's own arguments
--
-- and answers {code, now, expired, used, held, used, held, ..., granted, granted, ...}:
-- the leases that the call has found to have run out, the fields and then, if there are
-- grants, one for each limit; a count that is not there is 0. Or {OUTDATED, now, expired,
-- override} when the view does not hold: the override is another, the gateway's clock is
-- off, or a window has just turned. Then it asks again with the windows of now and this
-- override.
--
-- A script that does nothing takes Redis some 2 µs, a call in it 0.7 µs at the least, a
-- function that it makes 0.1 µs.

local OK, REFUSED, OUTDATED, SETTLED, UNHELD, THROTTLED, EXHAUSTED, HELD = 0, 1, 2, 3, 4, 5, 6, 7
local GRACE = 600000 -- longer than a call can be on its way, ms

local call, key = redis.call, KEYS[1]
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
local rest = 8 + ARGV[6]

local due = nil -- sweep, as a number
local override, forever = '', false -- what applies of plan: nothing after its end; it has none
local granted = nil -- to each limit of the view; nil: nothing
local outdated = false -- the view does not hold
local changed = false -- the user's numbers, by this call
local expired = 0 -- leases that it has found to have run out

-- string of a time; Lua's own would round it
local function text(ms)
  return string.format('%.0f', ms)
end

-- ends is the time with which a value begins.
local function ends(value)
  return tonumber(string.match(value, '^%d+'))
end

-- hold adds '1' or '-1' to what is held in the windows of a lease. What is 0 takes no room.
local function hold(lease, by)
  changed = true
  local n, endpoint, empty = 0, nil, {}
  for word in string.gmatch(lease, '%S+') do
    n = n + 1
    if n == 2 then
      endpoint = '/' .. word
    elseif n > 2 then
      local all = 'held/' .. word
      local one = all .. endpoint
      if call('HINCRBY', key, all, by) <= 0 then
        empty[#empty + 1] = all
      end
      if call('HINCRBY', key, one, by) <= 0 then
        empty[#empty + 1] = one
      end
    end
  end
  if #empty > 0 then
    call('HDEL', key, unpack(empty))
  end
end

-- live keeps the key until after a time.
local function live(last)
  if forever then
    return
  end
  local left = call('PTTL', key)
  if left < 0 or now + left < last + GRACE then
    call('PEXPIREAT', key, text(last + GRACE - ARGV[1]))
  end
end

-- expire notes that things end between two times, and keeps the key until after
-- the last of them.
local function expire(first, last)
  if not due or first < due then
    due = first
    call('HSET', key, 'sweep', text(first))
  end
  live(last)
end

-- clean ends what has expired, and a bucket that is full. It reads the whole hash, and
-- returns it as it was before, and the time at which the last thing in it will have ended;
-- nil: nothing will.
local function clean()
  -- What ends at the time with which its value begins, by the first word of its field.
  local ending = { lease = true, done = true, retain = true, once = true, audit = true, plan = true, grants = true }
  local all = call('HGETALL', key)
  local nearest, last, gone = nil, nil, {}
  for i = 1, #all, 2 do
    local kind, name = string.match(all[i], '^(%a+)/?(.*)$')
    local at = ending[kind] and ends(all[i + 1]) or 0 -- 0: it does not end by itself
    if at > 0 then
      if at > now then
        nearest, last = math.min(nearest or at, at), math.max(last or at, at)
      else
        call('HDEL', key, all[i])
        if kind == 'lease' then
          expired = expired + 1
          hold(all[i + 1], '-1')
        elseif kind == 'retain' then
          gone[name] = true
        elseif kind == 'plan' then
          changed = true
        end
      end
    elseif kind == 'attempts' then
      local full = all[i + 1] / 1000
      if full > now then
        last = math.max(last or full, full)
      else
        call('HDEL', key, all[i])
      end
    end
  end
  if next(gone) then
    for i = 1, #all, 2 do
      local kind, window = string.match(all[i], '^(%a+)/([^/]+)')
      if (kind == 'used' or kind == 'grant') and gone[window] then
        call('HDEL', key, all[i])
      end
    end
  end
  due = nearest
  if nearest then
    call('HSET', key, 'sweep', text(nearest))
  else
    call('HDEL', key, 'sweep')
  end
  return all, last
end

-- look returns a list that has, from FOUND on, the values of some fields. It looks at what
-- concerns every call, too, and cleans when something is due; a bucket that is full is not,
-- and only goes along.
local FOUND = 4
local function look(...)
  local found = call('HMGET', key, 'sweep', 'plan', 'grants', ...)
  due = tonumber(found[1])
  if due and now >= due then
    clean()
    return look(...)
  end
  override = found[2] or ''
  if override ~= '' then
    forever = ends(override) == 0
    if not forever and now >= ends(override) then
      override = ''
    end
  end
  outdated = ARGV[3] ~= override and ARGV[3] ~= '*' or now < tonumber(ARGV[4]) or now >= tonumber(ARGV[5])
  if found[3] and ARGV[7] ~= '0' then
    local names = {}
    for i = 1, tonumber(ARGV[7]) do
      names[i] = 'grant' .. string.sub(ARGV[6 + 2 * i], 5) -- instead of used
    end
    granted = call('HMGET', key, unpack(names))
  end
  return found
end

-- announce tells the gateways that the user's numbers have changed. Who may not
-- publish does without.
local function announce()
  if changed then
    redis.pcall('PUBLISH', key .. ':changes', '')
  end
end

-- answer ends the call with the view's counts, which begin at a place of a list.
local function answer(code, counts, first)
  announce()
  local reply = { code, now, expired, unpack(counts, first, first + rest - 9) }
  if granted then
    for i = 1, #granted do
      reply[#reply + 1] = granted[i]
    end
  end
  return reply
end

-- mismatch ends the call when the view does not hold.
local function mismatch()
  announce()
  return { OUTDATED, now, expired, override }
end
