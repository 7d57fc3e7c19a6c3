-- Drop messages of a queue that wait, and cancel their tasks: the records become REVOKED, and so do the results. A task
-- that runs by another message, or of which a later try was published, stays as it is.
-- ARGV[1]  key prefix
-- ARGV[2]  queue
-- ARGV[3]  the list of ready messages; '' for what waits until it is due
-- ARGV[4]  how many messages at most
-- ARGV[5]  now, ISO 8601
-- ARGV[6]  seconds until records and results expire
-- ARGV[7]  the result of a cancelled task, JSON, up to its id
-- ARGV[8]  what follows the id
-- ARGV[9]  '' or lease, ms: those that are part of a group are leased and not dropped, for a chord may wait for them
-- ARGV[10] owner of these, for people
-- Returns  how many were dropped or leased; then for each leased one delivery tag and raw message.
-- Called by people, again and again. O(messages * log records).
local prefix, queue, list, wanted = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local inflight = prefix .. 'celeriac:inflight'
local seq = prefix .. 'celeriac:seq'
local us = now_us()

-- Whether the task, by what is known of it, ends with this message.
local function ends_with(raw, record)
  local state, next_try, delivery, retries = record[1], record[3], record[4], record[5]
  if state == 'SUCCESS' or state == 'FAILURE' then
    return false
  end
  local try = tonumber(header(raw, 'retries', '(%d+)') or 0)
  if next_try and try < tonumber(next_try) then
    return false
  end
  local runs = delivery and redis.call('HEXISTS', inflight, delivery) == 1
  return not (runs and tonumber(retries) == try)
end

local function cancel(raw, id, key, state, in_queue, name)
  local event = tell(prefix, id, 'REVOKED', in_queue, name)
  redis.call('HSET', key, 'event', event, 'state', 'REVOKED', 'finished_at', ARGV[5])
  redis.call('EXPIRE', key, ARGV[6])
  local from = prefix .. 'celeriac:tasks:' .. state .. ':' .. in_queue
  local submitted = redis.call('ZSCORE', from, id)
  if submitted then
    redis.call('ZREM', from, id)
    redis.call('ZADD', prefix .. 'celeriac:tasks:REVOKED:' .. in_queue, submitted, id)
  end
  if not header(raw, 'ignore_result', 'true') then
    local result = ARGV[7] .. cjson.encode(id) .. ARGV[8]
    redis.call('SET', prefix .. 'celery-task-meta-' .. id, result, 'EX', ARGV[6])
    redis.call('PUBLISH', prefix .. 'celery-task-meta-' .. id, result)
  end
end

-- A tag as those of `claim.lua`, which nobody has had before.
local function lease(from, raw)
  local tag = string.format('%.0f', math.max(tonumber(redis.call('GET', seq) or 0) + 1, us))
  redis.call('SET', seq, tag)
  redis.call('HSET', inflight, tag, ARGV[10] .. '\n' .. from .. '\n' .. raw)
  redis.call('ZADD', prefix .. 'celeriac:leases:' .. queue, math.floor(us / 1000) + tonumber(ARGV[9]), tag)
  return tag
end

local answer = {}
local function purge(from, raw)
  local id = task_id(raw, 'id')
  if not id then
    return
  end
  local key = prefix .. 'celeriac:task:' .. id
  local record = redis.call('HMGET', key, 'state', 'queue', 'next_try', 'delivery', 'retries', 'name')
  if not ends_with(raw, record) then
    return
  end
  if record[1] and record[1] ~= 'REVOKED' then
    cancel(raw, id, key, record[1], record[2], record[6])
  end
  if ARGV[9] ~= '' and header(raw, 'group', '"') then
    answer[#answer + 1] = lease(from, raw)
    answer[#answer + 1] = raw
  end
end

local purged
if list ~= '' then
  purged = redis.call('RPOP', list, wanted) or {}
  for _, raw in ipairs(purged) do
    purge(list, raw)
  end
else
  local delayed, messages = prefix .. 'celeriac:delayed:' .. queue, prefix .. 'celeriac:delayed-messages:' .. queue
  purged = redis.call('ZRANGE', delayed, 0, wanted - 1)
  for _, id in ipairs(purged) do
    local value = redis.call('HGET', messages, id)
    redis.call('HDEL', messages, id)
    redis.call('ZREM', delayed, id)
    if value then
      purge(split_delayed(value))
    end
  end
end
return { #purged, unpack(answer) }
