-- Raw messages are edited as text: cjson would turn [] into {} and lose large integers. Quotes within JSON strings are
-- escaped, so that what is looked for here is found only where it is a key.

-- Leave a token for a worker that waits for messages of a queue; none while it is paused, or workers would look in vain.
local function wake(prefix, queue)
  local tokens = prefix .. 'celeriac:wake:' .. queue
  if redis.call('LLEN', tokens) < 64 and redis.call('SISMEMBER', prefix .. 'celeriac:paused', queue) == 0 then
    redis.call('LPUSH', tokens, 1)
    redis.call('EXPIRE', tokens, 60)
  end
end

local function split_inflight(value)
  return value:match('^([^\n]*)\n([^\n]*)\n(.*)$')
end

local function split_delayed(value)
  return value:match('^([^\n]*)\n(.*)$')
end

-- Set header x-delivery-count. One that is no scalar stays: whoever made it counts in a way of their own.
local function with_count(raw, count)
  local _, stop = raw:find('"x%-delivery%-count": ?')
  if stop then
    local _, last = raw:find('^[%w.+-]+', stop + 1)
    if not last then
      _, last = raw:find('^"[^"\\]*"', stop + 1)
    end
    return last and raw:sub(1, stop) .. count .. raw:sub(last + 1) or raw
  end
  local _, brace = raw:find('"headers": ?{')
  if not brace then
    return raw
  end
  local comma = raw:find('^%s*}', brace + 1) and '' or ', '
  return raw:sub(1, brace) .. '"x-delivery-count": ' .. count .. comma .. raw:sub(brace + 1)
end

local function delivery_count(raw)
  return tonumber(raw:match('"x%-delivery%-count": ?(%d+)') or 0)
end
