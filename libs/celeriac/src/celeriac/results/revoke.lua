-- Cancel a task: it is not started any more, and its state is REVOKED at once, for `AsyncResult` as well.
-- KEYS[1]  prefix of all keys
-- KEYS[2]  task id
-- ARGV[1]  seconds until the revocation expires
-- ARGV[2]  now, ISO 8601
-- ARGV[3]  '1' to leave one that runs alone, and one of which nothing is known to be revoked
-- ARGV[4]  seconds until the record expires
-- ARGV[5]  result, JSON; '' for none
-- ARGV[6]  seconds until the result expires; '' for never
-- Returns  the state before, or false where there is no record.
-- Called by cancellation. O(log revoked ids + log records).
local prefix, id = KEYS[1], KEYS[2]
local task, revoked = prefix .. 'celeriac:task:' .. id, prefix .. 'celeriac:revoked'
local record = redis.call('HMGET', task, 'state', 'queue', 'name')
local state, queue = record[1], record[2]
if state == 'SUCCESS' or state == 'FAILURE' or state == 'REVOKED' then
  return state
end
local running = state == 'STARTED' or state == 'PROGRESS'
if ARGV[3] == '1' and running or ARGV[3] ~= '1' and not state then
  return state
end
local now = tonumber(redis.call('TIME')[1])
-- A delayed task may have longer to go than the usual time.
local expires = math.max(tonumber(ARGV[1]), redis.call('TTL', task))
redis.call('ZREMRANGEBYSCORE', revoked, '-inf', now)
redis.call('ZADD', revoked, now + expires, id)
if state then
  local event = tell(prefix, id, 'REVOKED', queue, record[3])
  redis.call('HSET', task, 'event', event, 'state', 'REVOKED', 'finished_at', ARGV[2])
  redis.call('EXPIRE', task, ARGV[4])
  move(prefix, id, queue, state, 'REVOKED')
  redis.call('ZREM', prefix .. 'celeriac:delayed:' .. queue, id)
  redis.call('HDEL', prefix .. 'celeriac:delayed-messages:' .. queue, id)
  if ARGV[5] ~= '' then
    local result = prefix .. 'celery-task-meta-' .. id
    redis.call('SET', result, ARGV[5])
    if ARGV[6] ~= '' then
      redis.call('EXPIRE', result, ARGV[6])
    end
    redis.call('PUBLISH', result, ARGV[5])
  end
end
return state
