-- Decide whether a delivery may run its task, and record its start.
-- KEYS[1]   prefix of all keys; their names are made here, for as long as they are they would be sent for every task
-- KEYS[2]   task id
-- KEYS[3]   the queue that the delivery came from; '' where it has no lease
-- ARGV[1]   delivery tag; '' for a delivery that has no lease
-- ARGV[2]   how often the task has been tried before
-- ARGV[3]   now, ISO 8601
-- ARGV[4]   worker
-- ARGV[5]   seconds until the record expires
-- ARGV[6]   result to store for the state STARTED, JSON; '' for none
-- ARGV[7]   seconds until the result expires
-- Returns   'run', or why not: 'lost' (the lease was given to another), 'SUCCESS', 'FAILURE' or 'REVOKED' (it has come
--           to that end), 'superseded' (a later try has been published), 'duplicate' (another delivery runs it now).
-- Called by workers before each run. O(log leases + log records).
local prefix, id, tag = KEYS[1], KEYS[2], ARGV[1]
local task, result = prefix .. 'celeriac:task:' .. id, prefix .. 'celery-task-meta-' .. id
local started = prefix .. 'celeriac:started'
if tag ~= '' and not redis.call('ZSCORE', prefix .. 'celeriac:leases:' .. KEYS[3], tag) then
  return 'lost'
end
local record = redis.call('HMGET', task, 'state', 'next_try', 'delivery', 'retries', 'queue', 'name')
local state, next_try, delivery, retries = record[1], record[2], record[3], record[4]
if state == 'SUCCESS' or state == 'FAILURE' or state == 'REVOKED' then
  return state
end
if next_try and tonumber(ARGV[2]) < tonumber(next_try) then
  return 'superseded'
end
-- The next try may come while the one before is still to be acknowledged.
local same_try = delivery and tonumber(retries) == tonumber(ARGV[2])
if same_try and tag ~= '' and delivery ~= tag and redis.call('HEXISTS', prefix .. 'celeriac:inflight', delivery) == 1 then
  return 'duplicate'
end
-- A Redis whose memory is full lets a script add only after it has removed; a task that could not begin could not make
-- room either.
redis.call('SREM', started, tag)
if tag ~= '' then
  redis.call('SADD', started, tag)
end
if state then
  local event = tell(prefix, id, 'STARTED', record[5], record[6])
  redis.call('HSET', task, 'event', event, 'state', 'STARTED', 'started_at', ARGV[3], 'worker', ARGV[4],
    'retries', ARGV[2], 'delivery', tag)
  redis.call('EXPIRE', task, ARGV[5])
  move(prefix, id, record[5], state, 'STARTED')
end
if ARGV[6] ~= '' then
  redis.call('SET', result, ARGV[6], 'EX', ARGV[7])
  redis.call('PUBLISH', result, ARGV[6])
end
return 'run'
