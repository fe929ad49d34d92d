-- What the scripts share that settle rests or keep them; it stands after common.lua. A script that does
-- neither need not pay for it.

-- Adds some units, which may be negative, to what is held in all windows of "EXPIRY E W W ...".
local function add_units(held, units)
  changed = true
  local endpoint, windows = string.match(held, '^%S+ (%S+)(.*)$')
  local empty = {}
  for window in string.gmatch(windows, '%S+') do
    local all = 'heldextra/' .. window
    for _, field in ipairs({ all, all .. '/' .. endpoint }) do
      if call('HINCRBY', key, field, units) == 0 then
        empty[#empty + 1] = field
      end
    end
  end
  if #empty > 0 then
    call('HDEL', key, unpack(empty))
  end
end

-- Deletes a rest.
local function delete_rest(id, rest)
  call('HDEL', key, 'rest/' .. id)
  if call('HINCRBY', key, 'rests', '-1') <= 0 then
    call('HDEL', key, 'rests')
  end
  add_units(rest, -tonumber(extra_of(rest)))
end

-- Adds a rest. If it is there already, it only ends at another time.
local function add_rest(id, rest)
  if call('HSET', key, 'rest/' .. id, rest) == 1 then
    call('HINCRBY', key, 'rests', '1')
    add_units(rest, extra_of(rest))
  end
end

-- Returns "E W W ..." of the reservation that begins at ARGV[at], with the windows from ARGV[w] on.
local function held_in(at, w)
  local words = { ARGV[at + 3] }
  for i = w + 1, w + 2 * ARGV[w], 2 do
    words[#words + 1] = ARGV[i]
  end
  return table.concat(words, ' ')
end

-- Ends, in one hash, a rest, nil if it is not there: then its units are taken from the lease of the same
-- reservation. Returns whether they were held.
local function end_rest(id, rest, units)
  if rest then
    delete_rest(id, rest)
    return true
  end
  local lease = call('HGET', key, 'lease/' .. id)
  if not lease then
    return false
  end
  local left = (extra_of(lease) or 0) - units
  call('HSET', key, 'lease/' .. id, format_time(time_of(lease)) .. (left ~= 0 and '+' .. left or '') .. string.match(lease, ' .*$'))
  add_units(lease, -units)
  return true
end
