-- Counts in fields that have a number of requests, and beside it, with "extra" in its first word, by how much
-- their units exceed it: those of the newest day of the history, see days.lua, and of the newest hour for bills,
-- see hours.lua. It stands before either.

-- Adds n to a field, and returns whether nothing had been counted there. A field that is damaged, or
-- too large, begins anew: the request is already counted in its windows, and an error would have the gateway
-- send it again.
local function count_up(field, n)
  local sum = redis.pcall('HINCRBY', key, field, n)
  if type(sum) == 'table' then
    call('HSET', key, field, n)
    return true
  end
  return sum - n == 0
end

-- Counts requests, nil: none, and units beyond that in "WORD/...", and in "WORDextra/...". Returns whether
-- nothing had been counted in one of them.
local function count_both(field, requests, extra)
  local is_first = requests and count_up(field, requests)
  if extra ~= '0' then
    is_first = count_up(string.gsub(field, '/', 'extra/', 1), extra) or is_first
  end
  return is_first
end
