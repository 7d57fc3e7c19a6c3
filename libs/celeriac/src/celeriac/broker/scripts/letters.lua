-- When a dead letter died, ms since 1970. Quotes within its message are escaped, so this is found only where it is a key.
local function died_ms(letter)
  return tonumber(letter:match('"died_ms":(%d+)') or 0)
end
