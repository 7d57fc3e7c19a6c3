-- Cancel a task: it is not started any more, and its state is REVOKED at once, for `AsyncResult` as well.
-- ARGV[1]  prefix of all keys
-- ARGV[2]  task id
-- ARGV[3]  seconds until the revocation expires
-- ARGV[4]  now, ISO 8601
-- ARGV[5]  '1' to leave one that runs alone, and one of which nothing is known to be revoked
-- ARGV[6]  seconds until the record expires
-- ARGV[7]  result, JSON; '' for none
-- ARGV[8]  seconds until the result expires; '' for never
-- Returns  the state before, or false where there is no record.
-- Called by cancellation. O(log revoked ids + log records).
local prefix, id = ARGV[1], ARGV[2]
local task, revoked = prefix .. 'celeriac:task:' .. id, prefix .. 'celeriac:revoked'
local record = redis.call('HMGET', task, 'state', 'queue', 'name')
local state, queue = record[1], record[2]
if state == 'SUCCESS' or state == 'FAILURE' or state == 'REVOKED' then
  return state
end
local running = state == 'STARTED' or state == 'PROGRESS'
if ARGV[5] == '1' and running or ARGV[5] ~= '1' and not state then
  return state
end
local now = tonumber(redis.call('TIME')[1])
-- A delayed task may have longer to go than the usual time.
local expires = math.max(tonumber(ARGV[3]), redis.call('TTL', task))
redis.call('ZREMRANGEBYSCORE', revoked, '-inf', now)
redis.call('ZADD', revoked, now + expires, id)
if state then
  local event = tell(prefix, id, 'REVOKED', queue, record[3])
  redis.call('HSET', task, 'event', event, 'state', 'REVOKED', 'finished_at', ARGV[4])
  redis.call('EXPIRE', task, ARGV[6])
  move(prefix, id, queue, state, 'REVOKED')
  redis.call('ZREM', prefix .. 'celeriac:delayed:' .. queue, id)
  redis.call('HDEL', prefix .. 'celeriac:delayed-messages:' .. queue, id)
  if ARGV[7] ~= '' then
    local result = prefix .. 'celery-task-meta-' .. id
    redis.call('SET', result, ARGV[7])
    if ARGV[8] ~= '' then
      redis.call('EXPIRE', result, ARGV[8])
    end
    redis.call('PUBLISH', result, ARGV[7])
  end
end
return state
