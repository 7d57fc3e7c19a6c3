-- Make the record of a task whose message is not published, unless it has one.
-- KEYS[1]   celeriac:task:<id>                hash  the task's record
-- KEYS[2]   celeriac:tasks:PENDING:<queue>    zset  the index of the records of its queue and state
-- KEYS[3]   celeriac:queues                   set   every queue, which the indexes are found by
-- KEYS[4]   prefix of all keys
-- ARGV[1]   '' or its queue
-- ARGV[2]   task id
-- ARGV[3]   time of its submit, ms since 1970
-- ARGV[4]   seconds until it expires
-- ARGV[5…]  its fields, name and value in turn: `name` is the first, `state` is PENDING
-- Returns   1 if it was made, 0 if there is one.
-- Called by the result backend before it fails what was to follow a task. O(fields + log records).
-- A Redis whose memory is full lets a script add only after it has removed.
redis.call('HDEL', KEYS[1], '')
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local event = tell(KEYS[4], ARGV[2], 'PENDING', ARGV[1], ARGV[6])
redis.call('HSET', KEYS[1], 'event', event, unpack(ARGV, 5))
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[2])
if ARGV[1] ~= '' then
  redis.call('SADD', KEYS[3], ARGV[1])
end
return 1
