-- Decide whether a delivery may run its task, and record its start.
-- KEYS[1]   celeriac:task:<id>         hash    the task's record
-- KEYS[2]   celery-task-meta-<id>      string  its result, for AsyncResult
-- KEYS[3]   celeriac:leases:<queue>    zset    the leases of the queue that it came from
-- KEYS[4]   celeriac:started           set     deliveries whose task was started
-- KEYS[5]   celeriac:inflight          hash    all deliveries
-- KEYS[6]   celeriac:tasks:            what the names of the indexes of records begin with
-- ARGV[1]   delivery tag; '' for a delivery that has no lease
-- ARGV[2]   how often the task has been tried before
-- ARGV[3]   now, ISO 8601
-- ARGV[4]   worker
-- ARGV[5]   seconds until the record expires
-- ARGV[6]   result to store for the state STARTED, JSON; '' for none
-- ARGV[7]   seconds until the result expires
-- ARGV[8]   task id
-- Returns   'run', or why not: 'lost' (the lease was given to another), 'SUCCESS', 'FAILURE' or 'REVOKED' (it has come
--           to that end), 'superseded' (a later try has been published), 'duplicate' (another delivery runs it now).
-- Called by workers before each run. O(log leases + log records).
local tag = ARGV[1]
if tag ~= '' and not redis.call('ZSCORE', KEYS[3], tag) then
  return 'lost'
end
local record = redis.call('HMGET', KEYS[1], 'state', 'next_try', 'delivery', 'retries', 'queue')
local state, next_try, delivery, retries = record[1], record[2], record[3], record[4]
if state == 'SUCCESS' or state == 'FAILURE' or state == 'REVOKED' then
  return state
end
if next_try and tonumber(ARGV[2]) < tonumber(next_try) then
  return 'superseded'
end
-- The next try may come while the one before is still to be acknowledged.
local same_try = delivery and tonumber(retries) == tonumber(ARGV[2])
if same_try and tag ~= '' and delivery ~= tag and redis.call('HEXISTS', KEYS[5], delivery) == 1 then
  return 'duplicate'
end
-- A Redis whose memory is full lets a script add only after it has removed; a task that could not begin could not make
-- room either.
redis.call('SREM', KEYS[4], tag)
if tag ~= '' then
  redis.call('SADD', KEYS[4], tag)
end
if state then
  redis.call('HSET', KEYS[1], 'state', 'STARTED', 'started_at', ARGV[3], 'worker', ARGV[4], 'retries', ARGV[2],
    'delivery', tag)
  redis.call('EXPIRE', KEYS[1], ARGV[5])
  move(KEYS[6], ARGV[8], record[5], state, 'STARTED')
end
if ARGV[6] ~= '' then
  redis.call('SET', KEYS[2], ARGV[6], 'EX', ARGV[7])
  redis.call('PUBLISH', KEYS[2], ARGV[6])
end
return 'run'
