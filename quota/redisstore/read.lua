-- Reads the view. Codes: OK, TURNED.

if turned then
  return { TURNED, now }
end
sweep()
return answer(OK, counts())
