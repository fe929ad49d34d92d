-- What the scripts share, with functions.lua: both stand before each of them. plainreserve.lua and plainsettle.lua
-- stand between them, for what nearly every request needs.
--
-- All that Redis knows of a user is one hash, KEYS[1]. A script on one key is atomic in a
-- Redis Cluster too, even while the key's slot moves between nodes. A member of an organisation is a
-- user with a second hash, KEYS[2]: the pool that all members share. The fields of format 1:
--
--   format                the format of the hash; absent: 1
--   user                  the user's id as it is in the token
--   claimed               the plan that the token claimed when the user was last admitted
--   used/W   used/W/E     requests counted in window W: of all endpoints, of endpoint E
--   extra/W   extra/W/E   by how much the units of these requests exceed their number: the
--                         sum of (charged units - 1); absent: 0; may be negative
--   held/W   held/W/E     requests held in window W: by all endpoints, by endpoint E
--   heldextra/W   heldextra/W/E   by how much the units that these and rests hold exceed their number
--   lease/ID              a reservation: "EXPIRY E W W ...": when it ends, what it holds; with
--                         "EXPIRY+N" it holds N units more than the 1 of a request, N from -1 on
--   rest/ID               what this reservation still holds, counted as it is: "EXPIRY+N E W W ...", N
--                         units of no request, 1 or more
--   rests                 the number of rests; absent: 0
--   place/ID              the place of a running request, see reserve.lua: when it ends
--   places                the number of places; absent: 0
--   done/ID               a marker: this reservation is settled; when the marker ends
--   paid/ID               a marker: its rest is settled; likewise
--   grant/W   grant/W/E   requests granted for window W: to the limit on all, on E
--   unitgrant/W   unitgrant/W/E   units granted likewise, to the limit on units
--   grants                when the last of these ends; absent: there are none
--   plan                  "UNTIL NAME": the plan that an administrator has set; UNTIL 0: it
--                         has no end
--   terms                 quota.Terms as text: which windows run for this account, and what was
--                         carried into them; absent: the calendar, and nothing
--   audit                 "UNTIL", and the audit log, newest first: "\nTIME JSON" each
--   once/ID               "UNTIL FINGERPRINT" of the change that had this id
--   day/N/E   dayextra/N/E   requests counted on the newest day of the history, and by how much
--                         their units exceed their number. N is its date, in days since 1970
--   days                  "UNTIL N E E ...", and the history of the days before, see days.lua: a line "\nE F C,C,..."
--                         for each endpoint, with the counts "R" or "R+X" of the days from F on, empty:
--                         0. E E ... are the endpoints that were counted on day N; UNTIL: when its numbers end
--   events                "UNTIL", and the crossings that nobody has delivered yet, the oldest first: a line
--                         "\nID TIME USED ALLOWANCE THRESHOLD JSON" each, see quota.Crossing
--   rearmed/W             how often a reset, or counts that were set, have taken counts of window W down, or
--                         its counts were given another plan, while that or the one before had thresholds; absent: 0
--   bill/H/E   billextra/H/E   requests counted in the newest hour for bills, and by how much their units exceed
--                         their number; they are in no bill yet. H is the hour of UTC, in hours since 1970
--   bills                 "UNTIL R H E E ...": R is the last revision of a bill, 0: there was none; E E ... are the
--                         endpoints that were counted in hour H; UNTIL: when all of this ends. Then lines, see
--                         hours.lua: "\nH E C" for what was counted in an earlier hour and is in no bill yet, C as in
--                         days; "\n#H E C R" for a bill that was made and not ended
--   retain/W              when the counts and grants of window W end
--   sweep                 a time before which nothing in the hash ends; in a later format
--                         anything that is not a number
--   long                  of no meaning: a field so long that Redis keeps the hash as a table. Users who are busy get
--                         it, see library.lua, and those of whom there are many fields, see functions.lua
--   attempts/N/I          when the user's bucket of N attempts, of which one comes back
--                         every I µs, is full again, in µs; absent, or in the past: it is
--
-- W is the id of a window, such as "2026-11", and E an endpoint. All times are milliseconds
-- since 1970, except those in µs. The scripts end things themselves: only the whole key
-- uses Redis's own expiry. A key with a plan override that has no end has no expiry either.
--
-- The format changes when a gateway of format 1 would misread what is there. A new field that
-- it may ignore needs no new format. What release 0.1.0 counts crosses no threshold, as that release has none, and spoils none
-- of those after it: what a call crosses follows from the counts alone. Events and rearmed that it
-- leaves after their end are read by nobody, and go with the next sweep of another release. Release 0.1.0 knows no extra, heldextra, unitgrant, place,
-- places, rest, rests and paid, and does not keep them up to date when it deletes what has ended. So
-- delete_ended works them out again from the leases, rests and places that are there. To read the field format in each call would cost Redis
-- 0.1 µs, 2 % of read.lua. So a later format also puts something into sweep that is not a
-- number. Every script reads sweep first, and then refuses the hash, before it changes it.
--
-- Every script takes these, before its own arguments (common.go builds them):
--
--   KEYS[1]               the user's hash; its name has a hash tag
--   KEYS[2]               only for a member, where the script works on the pool as well: the pool's
--                         hash, with the same hash tag
--   ARGV[1]               offset to add to Redis's clock, in ms, any whole number; 0 except
--                         in tests
--   ARGV[2]               the user's id, 1 to 256 bytes
--   ARGV[3]               the plan override that the gateway assumes, as in the field plan;
--                         empty: none; *: the script must not compare it. Where terms matter,
--                         a line feed and the field terms that the gateway assumes follow
--   ARGV[4]               ms, 0 or more: from then on all windows run that the gateway assumes
--                         to run
--   ARGV[5]               ms, up to 2^52: until then they all run
--   ARGV[6]               m, the number of fields of counts to read, 0 or more. All are returned, unless an
--                         argument of reserve.lua or settle.lua says how many of the last ones are not
--   ARGV[7]               l, the number of limits, 0 to m/2: the first l pairs of fields are
--                         their counts
--   ARGV[8] to [7 + m]    these fields, first in pairs: used/W, held/W or used/W/E, held/W/E; for a
--                         limit on units, and for counts in units, extra/W, heldextra/W and so on;
--                         then those of which only used or extra is wanted
--   ARGV[rest], rest = 8 + m: the first of the script's own arguments
--
-- With KEYS[2], these come after its own arguments:
--
--   ARGV[block]           the id under which the pool is known, as ARGV[2]
--   ARGV[block + 1]       the plan override of the pool that the gateway assumes, as in ARGV[3]
--   ARGV[block + 2]       the terms of the pool that it assumes, if they matter in ARGV[3]; *: they do not
--                         matter
--   ARGV[block + 3]       for reserve.lua, what the request holds in the pool, as in a lease: "E W W";
--                         empty: nothing
--   ARGV[block + 4]...    n, 0 or more times: pair n of the fields is to be read in the pool
--   ARGV[#ARGV]           block
--
-- and returns {code, now, expired, used, held, used, held, ..., granted, granted, ...}:
-- Redis's clock in ms; the leases that this call has found to have run out; the fields, 0
-- where there is no count; and, if there are grants at all, one number for each limit. Or it
-- returns {OUTDATED, now, expired, assumed} when an assumption of the gateway is wrong:
-- there is another override, there are other terms, the gateway's clock is off, or a window has
-- just ended. Then the gateway asks again, with the windows of this time and with what ARGV[3]
-- should have been. With KEYS[2], byte 30 and the same of the pool follow.
--
-- In instructions of Redis 7.0, a script that does nothing takes 11,000, and each argument 1,000. A
-- redis.call takes 4,000 to 7,000, one more field in it 1,500 to 2,500. A function that the script creates takes
-- 500, tonumber 2,000, ARGV[i] + 0 only 1,000, and a number that becomes a text 2,500 to 5,000, or 2,000 less by %d.

local OK, REFUSED, OUTDATED, SETTLED, UNHELD, THROTTLED, EXHAUSTED, HELD, CROWDED, OVERFULL = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
local GRACE = 600000 -- ms; longer than a call can be on its way

local call, key = redis.call, KEYS[1]
local time = call('TIME')
local micros = time[2] + 0
local now = time[1] * 1000 + (micros - micros % 1000) / 1000 + ARGV[1]
local rest = 8 + ARGV[6]

local sweep_at = nil -- the field sweep, as a number
local override, forever = '', false -- what is valid of the field plan: empty after its end; it has no end
local assumed_override, assumed_terms = ARGV[3], nil -- the two lines of ARGV[3]; nil: terms do not matter
local terms = nil -- the field terms, if they matter
local granted = nil -- to each limit, see ARGV[7]; nil: nothing
local outdated = false -- an assumption of the gateway is wrong
local changed = false -- this call has changed numbers that users see
local unreturned = 0 -- see ARGV[6]
local read = nil -- what read_fields is to find, if a script has read it before
local FOUND = 4 -- the index of the first field in what read_fields finds
local expired = 0 -- leases that this call has found to have run out

if #assumed_override > 1 or assumed_override == '\n' then
  local line_feed = string.find(assumed_override, '\n', 1, true)
  if line_feed then
    assumed_terms = string.sub(assumed_override, line_feed + 1)
    assumed_override = string.sub(assumed_override, 1, line_feed - 1)
  end
end

-- With a pool, the locals from key to changed are those of one hash at a time. other has those of the
-- other hash, and switch exchanges them.
local pool, last_arg = KEYS[2], #ARGV
local block, other, switch, read_pool = nil, nil, nil, nil
local CHANGED = 9 -- the index in other
if pool then
  block = tonumber(ARGV[last_arg])
  last_arg = block - 1
  other = { pool, nil, '', false, ARGV[block + 1], assumed_terms and ARGV[block + 2] ~= '*' and ARGV[block + 2] or nil, nil, nil, false }
  function switch()
    local before = other
    other = { key, sweep_at, override, forever, assumed_override, assumed_terms, terms, granted, changed }
    key, sweep_at, override, forever, assumed_override, assumed_terms, terms, granted, changed = unpack(before, 1, CHANGED)
  end
end
