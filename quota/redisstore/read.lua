-- Reads the view. Codes: OK, OUTDATED.

if outdated then
  return { OUTDATED, now, expired, override }
end
sweep()
return answer(OK, counts())
