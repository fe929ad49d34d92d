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
--   ARGV[4]               n, the number of windows, 0 to 6; n times:
--     id, start, end      a window that the gateway believes to hold
--     retain              when its counts may be deleted
--   then                  m, the number of counters
--   then                  l, how many of them, the first, are those of limits; m times:
--     name                W or W/E
--   then                  the script's own arguments, from ARGV[rest] on
--
-- and answers {code, now, expired, used, held, used, held, ..., granted, granted, ...}:
-- the leases that the call has found to have run out, two for each counter and then, if
-- there are grants, one for each limit. Or {OUTDATED, now, expired, override} when the
-- view does not hold: the override is another, the gateway's clock is off, or a window has
-- just turned. Then it asks again with the windows of now and this override.

local OK, REFUSED, OUTDATED, SETTLED, UNHELD, THROTTLED, EXHAUSTED = 0, 1, 2, 3, 4, 5, 6
local GRACE = 600000 -- longer than a call can be on its way, ms

local key = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]

-- The fields that every call needs.
local state = redis.call('HMGET', key, 'sweep', 'plan', 'grants')

-- ends is the time with which a value begins.
local function ends(value)
  return tonumber(string.match(value, '^%d+'))
end

-- What applies of the override: none after its end.
local override, forever = state[2] or '', false
if override ~= '' then
  forever = ends(override) == 0
  if not forever and now >= ends(override) then
    override = ''
  end
end

local windows, outdated = {}, ARGV[3] ~= '*' and ARGV[3] ~= override
local rest = 5
for i = 1, tonumber(ARGV[4]) do
  windows[i] = { id = ARGV[rest], retain = tonumber(ARGV[rest + 3]) }
  outdated = outdated or now < tonumber(ARGV[rest + 1]) or now >= tonumber(ARGV[rest + 2])
  rest = rest + 4
end

local counters, limits, fields = tonumber(ARGV[rest]), tonumber(ARGV[rest + 1]), {}
for i = rest + 2, rest + 1 + counters do
  fields[#fields + 1] = 'used/' .. ARGV[i]
  fields[#fields + 1] = 'held/' .. ARGV[i]
end
if state[3] then
  for i = rest + 2, rest + 1 + limits do
    fields[#fields + 1] = 'grant/' .. ARGV[i]
  end
end
rest = rest + 2 + counters

-- string of a time; Lua's own would round it
local function text(ms)
  return string.format('%.0f', ms)
end

-- counts returns used, held, used, held, ..., granted, granted, ... of the view.
local function counts()
  if #fields == 0 then
    return {}
  end
  local values = redis.call('HMGET', key, unpack(fields))
  for i = 1, #values do
    values[i] = tonumber(values[i]) or 0
  end
  return values
end

local changed = false -- the user's numbers, by this call
local expired = 0 -- leases that it has found to have run out

-- announce tells the gateways that the user's numbers have changed. Who may not
-- publish does without.
local function announce()
  if changed then
    redis.pcall('PUBLISH', key .. ':changes', '')
  end
end

local function answer(code, values)
  announce()
  local reply = { code, now, expired }
  for i = 1, #values do
    reply[i + 3] = values[i]
  end
  return reply
end

-- add changes a number of holds; what is 0 takes no room.
local function add(field, by)
  if redis.call('HINCRBY', key, field, by) <= 0 then
    redis.call('HDEL', key, field)
  end
end

-- hold adds by to what is held in the windows of a lease.
local function hold(lease, by)
  changed = true
  local n, endpoint = 0, nil
  for word in string.gmatch(lease, '%S+') do
    n = n + 1
    if n == 2 then
      endpoint = word
    elseif n > 2 then
      add('held/' .. word, by)
      add('held/' .. word .. '/' .. endpoint, by)
    end
  end
end

-- live keeps the key until after a time.
local function live(last)
  if forever then
    return
  end
  local left = redis.call('PTTL', key)
  if left < 0 or now + left < last + GRACE then
    redis.call('PEXPIREAT', key, text(last + GRACE - ARGV[1]))
  end
end

-- expire notes that things end between two times, and keeps the key until after
-- the last of them.
local function expire(first, last)
  local sweep = tonumber(redis.call('HGET', key, 'sweep'))
  if not sweep or first < sweep then
    redis.call('HSET', key, 'sweep', text(first))
  end
  live(last)
end

-- What ends at the time with which its value begins, by the first word of its field.
local ending = { lease = true, done = true, retain = true, once = true, audit = true, plan = true, grants = true }

-- clean ends what has expired, and a bucket that is full. It reads the whole hash, and returns it as it was before,
-- and the time at which the last thing in it will have ended; nil: nothing will.
local function clean()
  local all = redis.call('HGETALL', key)
  local nearest, last, gone = nil, nil, {}
  for i = 1, #all, 2 do
    local kind, name = string.match(all[i], '^(%a+)/?(.*)$')
    local at = ending[kind] and ends(all[i + 1]) or 0 -- 0: it does not end by itself
    if at > 0 then
      if at > now then
        nearest, last = math.min(nearest or at, at), math.max(last or at, at)
      else
        redis.call('HDEL', key, all[i])
        if kind == 'lease' then
          expired = expired + 1
          hold(all[i + 1], -1)
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
        redis.call('HDEL', key, all[i])
      end
    end
  end
  if next(gone) then
    for i = 1, #all, 2 do
      local kind, window = string.match(all[i], '^(%a+)/([^/]+)')
      if (kind == 'used' or kind == 'grant') and gone[window] then
        redis.call('HDEL', key, all[i])
      end
    end
  end
  if nearest then
    redis.call('HSET', key, 'sweep', text(nearest))
  else
    redis.call('HDEL', key, 'sweep')
  end
  return all, last
end

-- sweep cleans when something is due; a bucket that is full is not, and only goes along.
local function sweep()
  if state[1] and now >= tonumber(state[1]) then
    clean()
  end
end
