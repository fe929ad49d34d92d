-- What the three scripts share; it stands before each of them.
--
-- All that Redis knows of a user is one hash, KEYS[1]. One key, because then a
-- script is atomic in Redis Cluster too while the key's slot moves between nodes.
--
--   user                  the user's id as the token had it
--   used/W   used/W/E     requests counted in window W: all, of endpoint E
--   held/W   held/W/E     units held in window W: all, of endpoint E
--   lease/ID              a hold: "EXPIRY E W W ...": when it ends, what it holds
--   done/ID               a marker: this reservation is settled; until when it stays
--   retain/W              when the counts of window W are deleted
--   sweep                 a time before which nothing expires
--   attempts              when the user's bucket of attempts is full, µs; not there, or
--                         in the past: it is
--
-- W is a window's id, "2026-11" say; E an endpoint; all times are milliseconds
-- since 1970 where they are not µs. Nothing relies on Redis's own expiry but the end of the whole key.
--
-- Every script takes the view that the gateway has of the user:
--
--   ARGV[1]               added to Redis's clock, ms; 0 but in tests
--   ARGV[2]               the user's id, 1 to 256 bytes
--   ARGV[3]               n, the number of windows, 0 to 6; n times:
--     id, start, end      a window that the gateway believes to hold
--     retain              when its counts may be deleted
--   then                  m, the number of counters; m times:
--     name                W or W/E
--   then                  the script's own arguments, from ARGV[rest] on
--
-- and answers {code, now, used, held, used, held, ...}, two for each counter, or
-- {TURNED, now} when a window does not hold at Redis's time: then the gateway's
-- clock is off or the window has just turned, and it asks again with the windows
-- of now.

local OK, REFUSED, TURNED, SETTLED, UNHELD, THROTTLED = 0, 1, 2, 3, 4, 5
local GRACE = 600000 -- longer than a call can be on its way, ms

local key = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]

local windows, turned = {}, false
local rest = 4
for i = 1, tonumber(ARGV[3]) do
  windows[i] = { id = ARGV[rest], retain = tonumber(ARGV[rest + 3]) }
  turned = turned or now < tonumber(ARGV[rest + 1]) or now >= tonumber(ARGV[rest + 2])
  rest = rest + 4
end

local fields = {}
for i = rest + 1, rest + tonumber(ARGV[rest]) do
  fields[#fields + 1] = 'used/' .. ARGV[i]
  fields[#fields + 1] = 'held/' .. ARGV[i]
end
rest = rest + tonumber(ARGV[rest]) + 1

-- string of a time; Lua's own would round it
local function text(ms)
  return string.format('%.0f', ms)
end

-- counts returns used, held, used, held, ... of the view.
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

-- announce tells the gateways that the user's numbers have changed. Who may not
-- publish does without.
local function announce()
  if changed then
    redis.pcall('PUBLISH', key .. ':changes', '')
  end
end

local function answer(code, values)
  announce()
  local reply = { code, now }
  for i = 1, #values do
    reply[i + 2] = values[i]
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

-- sweep ends what has expired. It reads the whole hash, but only once something
-- in it is due; a bucket that is full is not due, and only goes along.
local function sweep()
  local due = tonumber(redis.call('HGET', key, 'sweep'))
  if not due or now < due then
    return
  end
  local all = redis.call('HGETALL', key)
  local nearest, gone = nil, {}
  for i = 1, #all, 2 do
    local kind, name = string.match(all[i], '^(%a+)/(.+)$')
    if kind == 'lease' or kind == 'done' or kind == 'retain' then
      local at = tonumber(string.match(all[i + 1], '^%d+'))
      if at > now then
        nearest = math.min(nearest or at, at)
      else
        redis.call('HDEL', key, all[i])
        if kind == 'lease' then
          hold(all[i + 1], -1)
        elseif kind == 'retain' then
          gone[name] = true
        end
      end
    elseif all[i] == 'attempts' and tonumber(all[i + 1]) <= now * 1000 then
      redis.call('HDEL', key, 'attempts')
    end
  end
  if next(gone) then
    for i = 1, #all, 2 do
      local window = string.match(all[i], '^used/([^/]+)')
      if window and gone[window] then
        redis.call('HDEL', key, all[i])
      end
    end
  end
  if nearest then
    redis.call('HSET', key, 'sweep', text(nearest))
  else
    redis.call('HDEL', key, 'sweep')
  end
end
