-- Returns a user's counts and grants. It has no arguments of its own (read.go).
--
-- Codes: OK, OUTDATED.

local found = read_fields(unpack(ARGV, 8, rest - 1))
if pool then
  read_pool(found, FOUND)
end
if outdated then
  return reply_outdated()
end
return reply_with(OK, found, FOUND)
