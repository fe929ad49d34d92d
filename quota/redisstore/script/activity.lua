-- What the terms of an account depend on, for the scripts that read and set them. It stands after
-- common.lua.

-- Returns the number of leases and rests, and a list of the windows in which something is counted or granted.
local function read_activity()
  local held, windows = 0, {}
  local all = call('HGETALL', key)
  for i = 1, #all, 2 do
    local kind, window = string.match(all[i], '^(%a+)/(.*)$')
    if kind == 'lease' or kind == 'rest' then
      held = held + 1
    elseif kind == 'retain' then
      windows[#windows + 1] = window
    end
  end
  return held, windows
end

-- Reports whether an argument allows to set the terms: it is -, or no lease and no rest is there, and as many
-- windows as it says. So terms by which other windows run at once are set only while nothing runs.
local function activity_is(wanted)
  if wanted == '-' then
    return true
  end
  local held, windows = read_activity()
  return held == 0 and #windows == tonumber(wanted)
end
