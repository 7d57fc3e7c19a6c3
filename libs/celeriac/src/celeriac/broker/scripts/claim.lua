-- Move ready messages to leases: popped, tagged and recorded in one step, so none is ever outside of all keys.
-- KEYS      lists  the queues' lists of the default priority; those of the others follow from their names
-- ARGV[1]   key prefix
-- ARGV[2]   owner, for people
-- ARGV[3]   lease, ms
-- ARGV[4]   how many messages at most
-- ARGV[5]   one character for each of KEYS: '1' where messages need no acknowledgement and so no lease
-- ARGV[6]   '1' if the owner does not mark starts itself: each delivery then counts as started
-- Returns   for each message: number of its queue in KEYS, delivery tag, 1 if its task is revoked, raw message. Nothing
--           from a queue that is paused.
-- Called by channels that have credit. O(queues + messages).
local prefix, owner, left = ARGV[1], ARGV[2], tonumber(ARGV[4])
local us = now_us()
local deadline = math.floor(us / 1000) + tonumber(ARGV[3])
local revoked = prefix .. 'celeriac:revoked'
local revocations = redis.call('EXISTS', revoked) == 1
local seq = prefix .. 'celeriac:seq'
local tag
local claimed = {}

-- Tags are fencing tokens. They start from the time, so that none is repeated after Redis has lost its last second.
local function next_tag()
  tag = math.max((tag or tonumber(redis.call('GET', seq) or 0)) + 1, us)
  return string.format('%.0f', tag)
end

local function is_revoked(raw)
  local id = revocations and raw:match('"id": ?"([^"]+)"')
  local expires = id and redis.call('ZSCORE', revoked, id)
  return expires and tonumber(expires) > us / 1000000 and 1 or 0
end

local function take(number, list, raw)
  local name = next_tag()
  if ARGV[5]:sub(number, number) == '0' then
    local queue = KEYS[number]:sub(#prefix + 1)
    redis.call('HSET', prefix .. 'celeriac:inflight', name, owner .. '\n' .. list .. '\n' .. raw)
    redis.call('ZADD', prefix .. 'celeriac:leases:' .. queue, deadline, name)
    if ARGV[6] == '1' then
      redis.call('SADD', prefix .. 'celeriac:started', name)
    end
  end
  claimed[#claimed + 1] = number
  claimed[#claimed + 1] = name
  claimed[#claimed + 1] = is_revoked(raw)
  claimed[#claimed + 1] = raw
  left = left - 1
end

local paused = prefix .. 'celeriac:paused'
local pauses = redis.call('EXISTS', paused) == 1
local running = {}
for number = 1, #KEYS do
  if not pauses or redis.call('SISMEMBER', paused, KEYS[number]:sub(#prefix + 1)) == 0 then
    running[#running + 1] = number
  end
end

for priority = 9, 0, -1 do
  local open = { unpack(running) }
  -- Queues that have messages of this priority share what is left.
  while left > 0 and #open > 0 do
    local still_open = {}
    local share = math.max(1, math.floor(left / #open))
    for _, number in ipairs(open) do
      if left > 0 then
        local list = priority == 5 and KEYS[number] or KEYS[number] .. ':' .. priority
        local wanted = math.min(share, left)
        local messages = redis.call('RPOP', list, wanted) or {}
        for _, raw in ipairs(messages) do
          take(number, list, raw)
        end
        if #messages == wanted then
          still_open[#still_open + 1] = number
        end
      end
    end
    open = still_open
  end
end

if tag then
  redis.call('SET', seq, string.format('%.0f', tag))
end
if left > 0 then
  -- All is claimed: tokens of what was would only wake somebody for nothing.
  for number = 1, #KEYS do
    redis.call('DEL', prefix .. 'celeriac:wake:' .. KEYS[number]:sub(#prefix + 1))
  end
end
return claimed
