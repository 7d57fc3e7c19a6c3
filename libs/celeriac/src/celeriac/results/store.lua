-- Record a task's state and store its result, unless its delivery was given to another or it has come to an end; and
-- acknowledge the delivery, where nothing else is to follow: then a kill comes before all of it or after all of it.
-- ARGV[1]   prefix of all keys; names of keys are made here, for as long as they are they would be sent for every task
-- ARGV[2]   task id
-- ARGV[3]   the queue that the delivery came from; '' where it has no lease
-- ARGV[4]   the file that the result names; '' where it holds all itself
-- ARGV[5]   with a file, seconds until that may be removed; 'inf' for never
-- ARGV[6]   delivery tag; '' for none to check
-- ARGV[7]   new state; '' for one of the task's own, of which the record knows nothing
-- ARGV[8]   seconds until the record expires
-- ARGV[9]   result, JSON; '' for none
-- ARGV[10]   seconds until the result expires; '' for never
-- ARGV[11]   '1' to acknowledge the delivery
-- ARGV[12…]  further fields of the record, name and value in turn; the first is `retries`
-- Returns   'stored'; 'lost' if the lease was given to another; 'ended' if the task is REVOKED or SUCCESS already;
--           'superseded' for the state RETRY if a later try has begun; 'removed' if the file is, or is about to be.
-- Called by the result backend at every change of state. O(fields + log leases + log records).
local prefix, id = ARGV[1], ARGV[2]
local task, result = prefix .. 'celeriac:task:' .. id, prefix .. 'celery-task-meta-' .. id
local leases, inflight = prefix .. 'celeriac:leases:' .. ARGV[3], prefix .. 'celeriac:inflight'
if ARGV[6] ~= '' and not redis.call('ZSCORE', leases, ARGV[6]) then
  return 'lost'
end
local file, files, now = ARGV[4], nil, nil
if file ~= '' then
  files = prefix .. 'celeriac:result-files'
  now = tonumber(redis.call('TIME')[1])
  if tonumber(redis.call('ZSCORE', files, file) or 0) <= now + 1 then
    return 'removed'
  end
end
if ARGV[11] == '1' then
  redis.call('ZREM', leases, ARGV[6])
  redis.call('HDEL', inflight, ARGV[6])
  redis.call('SREM', prefix .. 'celeriac:started', ARGV[6])
end
local record = redis.call('HMGET', task, 'state', 'retries', 'queue', 'name')
local state, retries = record[1], record[2]
if (state == 'REVOKED' and ARGV[7] ~= 'REVOKED') or state == 'SUCCESS' then
  return 'ended'
end
-- A try publishes the next one before it reports that; the next may even have come to its end meanwhile.
if ARGV[7] == 'RETRY' and retries and tonumber(retries) > tonumber(ARGV[13]) then
  return 'superseded'
end
-- A Redis whose memory is full lets a script add only after it has removed; what has been done is not lost for that.
redis.call('HDEL', task, '')
if state and ARGV[7] ~= '' then
  local event = tell(prefix, id, ARGV[7], record[3], record[4])
  redis.call('HSET', task, 'event', event, 'state', ARGV[7], unpack(ARGV, 12))
  redis.call('EXPIRE', task, ARGV[8])
  move(prefix, id, record[3], state, ARGV[7])
  if ARGV[7] == 'FAILURE' then
    local held = ARGV[6] ~= '' and redis.call('HGET', inflight, ARGV[6])
    -- What is larger is not worth the memory.
    if held and #held <= 65536 then
      redis.call('SET', prefix .. 'celeriac:message:' .. id, held:match('\n(.*)$'), 'EX', ARGV[8])
    end
  end
end
if file ~= '' then
  redis.call('ZADD', files, now + tonumber(ARGV[5]), file)
end
if ARGV[9] ~= '' then
  redis.call('SET', result, ARGV[9])
  if ARGV[10] ~= '' then
    redis.call('EXPIRE', result, ARGV[10])
  end
  redis.call('PUBLISH', result, ARGV[9])
end
return 'stored'
