-- Keeps the index of the accounts that have crossings, or may have some soon, and who looks after them. It stands
-- alone, without common.lua. The index is not with the accounts: in a Redis Cluster it is on one node. So an
-- account is in it before the call that may record a crossing there (expect), and leaves it only after it was
-- looked at twice, with nothing there and nothing held.
--
--   KEYS[1]   due: a sorted set of accounts, by when somebody should look at them: SCORE = 16 * ms + flags
--   KEYS[2]   waiting: a sorted set of those known to have crossings, by when the oldest was recorded, in ms
--   ARGV[1]   offset to add to Redis's clock, in ms; 0 except in tests
--   ARGV[2]   what to do; then its arguments, which stand above its function (claims.go builds them)
--
-- Flags, each 0 or 1:
--
--   1   LAST      if nothing is found this time either, the account leaves the index
--   2   CLAIMED   until ms, the account belongs to who has this SCORE
--   4   EXPECTED  since it was claimed, a request was reserved that may cross a threshold
--   8   RECORDED  since it was claimed, a crossing was recorded
--
-- A gateway that has put an account there does not do so again for some seconds, fewer than LOOK. A request
-- that goes without is held, or has left its crossing, when the account is looked at for the last time.
--
-- Returns {now}, in ms, and what stands above the function.

local LOOK = 10000 -- ms; until an account is looked at that may have a crossing soon
local LIFE = 777600000 -- ms; the index ends by itself when nobody uses it any more, a day after all crossings
local LAST, CLAIMED, EXPECTED, RECORDED = 1, 2, 4, 8

local call, due, waiting = redis.call, KEYS[1], KEYS[2]
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]

local function format(n)
  return string.format('%.0f', n)
end

local function has(flags, flag)
  return math.floor(flags / flag) % 2 == 1
end

local function set(index, account, score)
  call('ZADD', index, format(score), account)
  call('PEXPIREAT', index, format(now + LIFE - ARGV[1]))
end

local actions = {}

-- Puts accounts into the index. Arguments, for each: the account; when a crossing of it was recorded, in ms; 0: it may
-- have one soon.
function actions.list()
  for i = 3, #ARGV, 2 do
    local account, recorded = ARGV[i], ARGV[i + 1] ~= '0'
    local score = tonumber(call('ZSCORE', due, account) or 16 * (now + LOOK))
    local ms, flags = math.floor(score / 16), score % 16
    if has(flags, CLAIMED) and ms > now then
      local flag = recorded and RECORDED or EXPECTED
      set(due, account, has(flags, flag) and score or score + flag)
    else
      set(due, account, 16 * (recorded and math.min(ms, now) or ms))
    end
    if recorded and not call('ZSCORE', waiting, account) then
      set(waiting, account, ARGV[i + 1])
    end
  end
  return { now }
end

-- Claims accounts. Arguments: the most of them; how long they are claimed, in ms. Returns, after now, the number of
-- waiting accounts, the score of the first of these, 0 if there is none, the SCORE of each account that was claimed,
-- and a text: "\nACCOUNT" of each.
function actions.claim()
  local found = call('ZRANGEBYSCORE', due, '-inf', format(16 * now + 15), 'WITHSCORES', 'LIMIT', 0, ARGV[3])
  local oldest = call('ZRANGEBYSCORE', waiting, '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  local reply, accounts = { now, call('ZCARD', waiting), tonumber(oldest[2] or 0) }, {}
  for i = 1, #found, 2 do
    local flags = found[i + 1] % 16
    local score = 16 * (now + ARGV[4]) + CLAIMED
    if has(flags, LAST) and not has(flags, EXPECTED) and not has(flags, RECORDED) then
      score = score + LAST
    end
    set(due, found[i], score)
    reply[#reply + 1] = score
    accounts[#accounts + 1] = '\n' .. found[i]
  end
  reply[#reply + 1] = table.concat(accounts)
  return reply
end

-- Ends a claim. Arguments: the account; its SCORE when it was claimed; when the oldest crossing that is left was
-- recorded, in ms, 0: none is left; the number of requests that are held there; when to look at it again if a crossing
-- is left, in ms from now.
function actions.finish()
  local account, oldest = ARGV[3], ARGV[5]
  local score = tonumber(call('ZSCORE', due, account) or 0)
  local flags = score % 16
  local expected, recorded = has(flags, EXPECTED), has(flags, RECORDED)
  if score - (expected and EXPECTED or 0) - (recorded and RECORDED or 0) ~= tonumber(ARGV[4]) then
    return { now }
  end
  if oldest ~= '0' then
    set(due, account, 16 * (now + ARGV[7]))
    set(waiting, account, oldest)
  elseif recorded then
    set(due, account, 16 * now)
  else
    call('ZREM', waiting, account)
    if ARGV[6] ~= '0' or expected then
      set(due, account, 16 * (now + LOOK))
    elseif has(flags, LAST) then
      call('ZREM', due, account)
    else
      set(due, account, 16 * (now + LOOK) + LAST)
    end
  end
  return { now }
end

return actions[ARGV[2]]()
