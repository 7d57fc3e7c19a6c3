-- Decide whether a delivery may run its task, and record its start.
-- ARGV[1]   prefix of all keys; names of keys are made here, for as long as they are they would be sent for every task
-- ARGV[2]   task id
-- ARGV[3]   the queue that the delivery came from; '' where it has no lease
-- ARGV[4]   delivery tag; '' for a delivery that has no lease
-- ARGV[5]   how often the task has been tried before
-- ARGV[6]   now, ISO 8601
-- ARGV[7]   worker
-- ARGV[8]   seconds until the record expires
-- ARGV[9]   result to store for the state STARTED, JSON; '' for none
-- ARGV[10]   seconds until the result expires
-- Returns   'run', or why not: 'lost' (the lease was given to another), 'SUCCESS', 'FAILURE' or 'REVOKED' (it has come
--           to that end), 'superseded' (a later try has been published), 'duplicate' (another delivery runs it now).
-- Called by workers before each run. O(log leases + log records).
local prefix, id, tag = ARGV[1], ARGV[2], ARGV[4]
local task, result = prefix .. 'celeriac:task:' .. id, prefix .. 'celery-task-meta-' .. id
local started = prefix .. 'celeriac:started'
if tag ~= '' and not redis.call('ZSCORE', prefix .. 'celeriac:leases:' .. ARGV[3], tag) then
  return 'lost'
end
local record = redis.call('HMGET', task, 'state', 'next_try', 'delivery', 'retries', 'queue', 'name')
local state, next_try, delivery, retries = record[1], record[2], record[3], record[4]
if state == 'SUCCESS' or state == 'FAILURE' or state == 'REVOKED' then
  return state
end
if next_try and tonumber(ARGV[5]) < tonumber(next_try) then
  return 'superseded'
end
-- The next try may come while the one before is still to be acknowledged.
local same_try = delivery and tonumber(retries) == tonumber(ARGV[5])
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
  redis.call('HSET', task, 'event', event, 'state', 'STARTED', 'started_at', ARGV[6], 'worker', ARGV[7],
    'retries', ARGV[5], 'delivery', tag)
  redis.call('EXPIRE', task, ARGV[8])
  move(prefix, id, record[5], state, 'STARTED')
end
if ARGV[9] ~= '' then
  redis.call('SET', result, ARGV[9], 'EX', ARGV[10])
  redis.call('PUBLISH', result, ARGV[9])
end
return 'run'
