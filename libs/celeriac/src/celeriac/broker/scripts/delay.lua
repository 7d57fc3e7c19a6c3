-- Let a message wait until it is due; false if it is due already.
local function delay(prefix, queue, list, raw, due, id)
  local us = now_us()
  local now = us / 1000
  if due <= now then
    return false
  end
  local delayed = prefix .. 'celeriac:delayed:' .. queue
  local messages = prefix .. 'celeriac:delayed-messages:' .. queue
  if redis.call('HEXISTS', messages, id) == 1 then
    id = id .. '#' .. string.format('%.0f', us)
  end
  local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
  redis.call('HSET', messages, id, list .. '\n' .. raw)
  redis.call('ZADD', delayed, due, id)
  -- Movers look twice a second at least; something earlier wakes one of them.
  if due - now < 1000 and (not first[2] or due < tonumber(first[2])) then
    local tokens = prefix .. 'celeriac:wake-mover'
    redis.call('LPUSH', tokens, 1)
    redis.call('LTRIM', tokens, 0, 15)
    redis.call('EXPIRE', tokens, 60)
  end
  return true
end
