-- Reads the view. Codes: OK, OUTDATED.

local found = look(unpack(ARGV, 8, rest - 1))
if outdated then
  return mismatch()
end
return answer(OK, found, FOUND)
