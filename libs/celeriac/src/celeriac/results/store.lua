-- Record a task's state and store its result, unless its delivery was given to another or it has come to an end; and
-- acknowledge the delivery, where nothing else is to follow: then a kill comes before all of it or after all of it.
-- KEYS[1]   celeriac:task:<id>       hash    the task's record
-- KEYS[2]   celery-task-meta-<id>    string  its result, for AsyncResult
-- KEYS[3]   celeriac:leases:<queue>  zset    the leases of the queue that it came from
-- KEYS[4]   celeriac:inflight         hash    all deliveries
-- KEYS[5]   celeriac:started          set     deliveries whose task was started
-- KEYS[6]   celeriac:tasks:           what the names of the indexes of records begin with
-- KEYS[7]   celeriac:message:<id>     string  list and raw message of a task that has failed, to be tried again
-- ARGV[1]   delivery tag; '' for none to check
-- ARGV[2]   new state; '' for one of the task's own, of which the record knows nothing
-- ARGV[3]   seconds until the record expires
-- ARGV[4]   result, JSON; '' for none
-- ARGV[5]   seconds until the result expires; '' for never
-- ARGV[6]   '1' to acknowledge the delivery
-- ARGV[7]   task id
-- ARGV[8…]  further fields of the record, name and value in turn; the first is `retries`
-- Returns   'stored'; 'lost' if the lease was given to another; 'ended' if the task is REVOKED or SUCCESS already;
--           'superseded' for the state RETRY if a later try has begun.
-- Called by the result backend at every change of state. O(fields + log leases + log records).
if ARGV[1] ~= '' and not redis.call('ZSCORE', KEYS[3], ARGV[1]) then
  return 'lost'
end
if ARGV[6] == '1' then
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('HDEL', KEYS[4], ARGV[1])
  redis.call('SREM', KEYS[5], ARGV[1])
end
local record = redis.call('HMGET', KEYS[1], 'state', 'retries', 'queue')
local state, retries = record[1], record[2]
if (state == 'REVOKED' and ARGV[2] ~= 'REVOKED') or state == 'SUCCESS' then
  return 'ended'
end
-- A try publishes the next one before it reports that; the next may even have come to its end meanwhile.
if ARGV[2] == 'RETRY' and retries and tonumber(retries) > tonumber(ARGV[9]) then
  return 'superseded'
end
-- A Redis whose memory is full lets a script add only after it has removed; what has been done is not lost for that.
redis.call('HDEL', KEYS[1], '')
if state and ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], 'state', ARGV[2], unpack(ARGV, 8))
  redis.call('EXPIRE', KEYS[1], ARGV[3])
  move(KEYS[6], ARGV[7], record[3], state, ARGV[2])
  if ARGV[2] == 'FAILURE' then
    local held = ARGV[1] ~= '' and redis.call('HGET', KEYS[4], ARGV[1])
    -- What is larger is not worth the memory.
    if held and #held <= 65536 then
      redis.call('SET', KEYS[7], held:match('\n(.*)$'), 'EX', ARGV[3])
    end
  end
end
if ARGV[4] ~= '' then
  redis.call('SET', KEYS[2], ARGV[4])
  if ARGV[5] ~= '' then
    redis.call('EXPIRE', KEYS[2], ARGV[5])
  end
  redis.call('PUBLISH', KEYS[2], ARGV[4])
end
return 'stored'
