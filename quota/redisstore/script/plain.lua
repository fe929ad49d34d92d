-- What plainreserve.lua and plainsettle.lua share; it stands before them. A local name is found faster than a global one.

local argv, byte, format = ARGV, string.byte, string.format
local MOST = 2147483647 -- what %d can make a text of in any Redis; %.0f takes longer
local MOST_UNITS = 9007199254740991 -- what a number of Lua is exact up to
local OVERDUE = 3600000 -- ms; how long what has ended may wait to be deleted
