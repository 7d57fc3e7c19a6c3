-- Publish the kept message of a task that has failed once more, and set back its record.
-- ARGV[1]   key prefix
-- ARGV[2]   queue
-- ARGV[3]   the list to put the message into
-- ARGV[4]   raw message
-- ARGV[5]   the key of the message that is kept, a string
-- ARGV[6]   the key of the task's record, a hash to write in place of what it holds
-- ARGV[7]   the key of the task's result, which is forgotten with the record that was
-- ARGV[8]   task id
-- ARGV[9]   time of its submit, ms since 1970
-- ARGV[10]  seconds until the record expires
-- ARGV[11…] its fields, name and value in turn: `name` is the first, `state` is PENDING
-- Returns   1 if done; 0 if the task is not one that has failed, or its message is gone, and then nothing has changed.
-- Called by people. O(log records).
local prefix, queue = ARGV[1], ARGV[2]
local before = redis.call('HMGET', ARGV[6], 'state', 'queue')
if before[1] ~= 'FAILURE' or redis.call('DEL', ARGV[5]) == 0 then
  return 0
end
redis.call('DEL', ARGV[7])
write_record(prefix, ARGV[6], queue, before[1], before[2], 8)
redis.call('LPUSH', ARGV[3], with_count(ARGV[4], 0))
wake(prefix, queue)
return 1
