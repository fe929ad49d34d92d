  -- Adds extra units to what is counted, as plainsettle.lua and plainrest.lua both do: these lines are part of either.
  for i = last_counted + 1, plain and extra ~= 0 and 2 * last_counted - 1 or 0 do
    local index = indexes[i]
    local after = tonumber(found[3 + index] or 0)
    after = after and after + extra
    if not after or after % 1 ~= 0 or after > MOST_UNITS or after < -MOST then
      plain = false
      break
    end
    after = format(after > MOST and '%.0f' or '%d', after)
    found[3 + index], fields[last + 1], fields[last + 2], last = after, names[name + index], after, last + 2
  end
