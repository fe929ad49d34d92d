-- Keeps rests of requests whose responses have not ended. A rest that is gone is taken again, even if no
-- units are left: Redis did not answer for longer than a rest lasts, or has lost it. One that is settled
-- is not, nor one whose request is not counted yet. rests.lua stands before this script. Its own
-- arguments (keep.go builds them):
--
--   ARGV[rest]      until when a rest that is gone is taken again, in ms: a call that arrives later may do
--                   so after the marker of its settlement was deleted
--   then, for each of 1 or more rests:
--     rest/ID       with the reservation's id
--     life          when it ends, in ms from now, 1 or more
--     units         what it holds, 1 to 10^9
--     held          where: "E W W ...", as in a lease
--     held          only with a pool: the same in the pool; empty: nothing
--
-- Codes: OK, OUTDATED.

read_fields()
if pool then
  read_pool()
end
local in_time = now <= tonumber(ARGV[rest])

-- Keeps the rest that begins at ARGV[at], in one hash.
local function keep(at, held, user)
  local ends = now + ARGV[at + 1]
  local value = format_time(ends) .. '+' .. ARGV[at + 2] .. ' ' .. held
  if call('HGET', key, ARGV[at]) then
    call('HSET', key, ARGV[at], value)
  elseif in_time then
    call('HSET', key, 'user', user)
    add_rest(string.sub(ARGV[at], 6), value)
  else
    return
  end
  note_ends(ends, ends)
end

for at = rest + 1, last_arg, pool and 5 or 4 do
  local id = string.sub(ARGV[at], 6)
  local known = call('HMGET', key, 'lease/' .. id, 'paid/' .. id)
  if not known[1] and not known[2] then
    keep(at, ARGV[at + 3], ARGV[2])
    if pool and ARGV[at + 4] ~= '' then
      switch()
      keep(at, ARGV[at + 4], ARGV[block])
      switch()
    end
  end
end
if outdated then
  return reply_outdated()
end
return reply_with(OK, {}, 1)
