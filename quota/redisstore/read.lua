-- Reads the view. Codes: OK, OUTDATED.

if outdated then
  return { OUTDATED, now, override }
end
sweep()
return answer(OK, counts())
