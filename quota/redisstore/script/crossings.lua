-- Records crossings, see quota.Crossing, for the scripts that count. It stands after common.lua; a script
-- for which no plan has thresholds need not pay for it.
--
-- What a count was before the call follows from what it is after it, and from what the call has added. So
-- nothing is kept of that, and Redis runs no command more for a call that crosses nothing.
--
-- Its arguments stand after those of the script, and before those of the pool (crossings.go builds them):
--
--   ARGV[alerts]      how cautious settle.lua is, see there: 0, 1 or 2
--   ARGV[alerts + 1]  how long a crossing is kept, in ms
--   ARGV[alerts + 2]  n, the number of thresholds, 0 or more; then these, in percent, the highest first
--   then, for each limit of which a threshold may be crossed, ALERT_ARGS:
--     i               pair i of the fields has what is used of it; 0: none has, and the script reads it
--     j               of a limit on units: pair j has the requests of its counter; 0: it is on requests, or i is 0
--     pool            1: the limit is the pool's; 0: it is the account's
--     unit            requests or units
--     counter         W or W/E
--     window          W
--     limit           its name
--     allowed         what it allows without grants, 0 or more
--     before          for change.lua: what the limit of that name has allowed until now; -1: there was none; empty: the same
--     grant           the field of what is granted to it; empty: grants do not raise it
--     json            what else there is to say of it, as JSON on one line
--   ARGV[last_arg]    alerts

local ALERT_ARGS = 11

local alerts = tonumber(ARGV[last_arg])
local caution, highest, last_alert_arg = ARGV[alerts], alerts + 3, last_arg - 1
local first_alert = highest + ARGV[alerts + 2]
last_arg = alerts - 1

-- What this call has added to the counters of the account and of the pool.
local added, added_in_pool = { requests = {}, units = {} }, pool and { requests = {}, units = {} }

-- Notes that some requests, nil: none, were counted, and by how much their units exceed them.
local function note_added(window, endpoint, requests, extra)
  local sums = key == pool and added_in_pool or added
  local of_requests, of_units = sums.requests, sums.units
  local one = window .. '/' .. endpoint
  requests = requests or 0
  local units = requests + extra
  of_requests[window], of_requests[one] = (of_requests[window] or 0) + requests, (of_requests[one] or 0) + requests
  of_units[window], of_units[one] = (of_units[window] or 0) + units, (of_units[one] or 0) + units
end

-- Returns what is used of the limit that begins at ARGV[at], and what is granted to it.
local function read_limit(at, counts)
  local i, j = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  if i > 0 then
    return (counts[2 * i - 1] or 0) + (j > 0 and counts[2 * j - 1] or 0), ARGV[at + 9] ~= '' and granted and granted[i] or 0
  end
  local counter = ARGV[at + 4]
  local found = call('HMGET', ARGV[at + 2] == '1' and pool or key, 'used/' .. counter, 'extra/' .. counter, ARGV[at + 9])
  return (found[1] or 0) + (ARGV[at + 3] == 'units' and found[2] or 0), found[3] or 0
end

-- Records a crossing, unless it is there already: a count can have fallen without a reset.
local function record(at, threshold, used, allowance)
  local in_pool = ARGV[at + 2] == '1'
  if in_pool then
    switch()
  end
  local account, window = in_pool and ARGV[block] or ARGV[2], ARGV[at + 5]
  local known = call('HMGET', key, 'rearmed/' .. window, 'events')
  allowance = format_time(allowance)
  local id = 'msg_' .. redis.sha1hex(table.concat({ account, ARGV[at + 6], window, threshold, allowance, known[1] or '0' }, '\n'))
  local events = string.match(known[2] or '', '(\n.*)$') or ''
  if not string.find(events, '\n' .. id .. ' ', 1, true) then
    local ends = now + ARGV[alerts + 1]
    local line = table.concat({ id, format_time(now), format_time(used), allowance, threshold, ARGV[at + 10] }, ' ')
    call('HSET', key, 'user', account, 'events', format_time(ends) .. events .. '\n' .. line)
    note_ends(ends, ends)
  end
  if in_pool then
    switch()
  end
end

-- Records what the call has crossed. counts has the fields that the script was asked for, after the call; before,
-- what was used of each limit before it, by its first argument; nil: that follows from what was added. Returns what
-- to add to the code of the reply: RECORDED, if there was a crossing of the account, and RECORDED_IN_POOL, if there
-- was one of the pool.
local RECORDED, RECORDED_IN_POOL = 100, 200
local function record_crossings(counts, before)
  local own, shared = 0, 0
  for at = first_alert, last_alert_arg, ALERT_ARGS do
    local in_pool = ARGV[at + 2] == '1'
    local sum = not before and (in_pool and added_in_pool or added)[ARGV[at + 3]][ARGV[at + 4]]
    if before or sum and sum > 0 then
      local used, grants = read_limit(at, counts)
      local allowance, was = ARGV[at + 7] + grants, nil
      if ARGV[at + 8] == '' then
        was = allowance
      elseif ARGV[at + 8] ~= '-1' then
        was = ARGV[at + 8] + grants
      end
      for i = highest, allowance > 0 and first_alert - 1 or 0 do
        if used * 100 >= ARGV[i] * allowance then
          if not was or was <= 0 or (before and before[at] or used - sum) * 100 < ARGV[i] * was then
            record(at, ARGV[i], used, allowance)
            own, shared = in_pool and own or RECORDED, in_pool and RECORDED_IN_POOL or shared
          end
          break
        end
      end
    end
  end
  return own + shared
end
