-- Put a dead letter's message back into its queue, and set back the record of its task if that has failed; or drop it.
-- ARGV[1]   key prefix
-- ARGV[2]   queue
-- ARGV[3]   the dead letter as it stands in the list
-- ARGV[4]   the list to put the message into; '' to drop it
-- ARGV[5]   raw message
-- ARGV[6]   '' or the key of the record of its task, a hash to write in place of what it holds
-- ARGV[7]   the key of the task's result, which is forgotten with the record that was
-- ARGV[8]   task id
-- ARGV[9]   time of its submit, ms since 1970
-- ARGV[10]  seconds until the record expires
-- ARGV[11…] its fields, name and value in turn: `name` is the first, `state` is PENDING
-- Returns   1 if done; 0 if the dead letter is gone, and then nothing has changed.
-- Called by people. O(dead letters + log records).
local prefix, queue = ARGV[1], ARGV[2]
-- From the end: where many are replayed, the oldest go first.
if redis.call('LREM', prefix .. 'celeriac:dead:' .. queue, -1, ARGV[3]) == 0 then
  return 0
end
if ARGV[4] == '' then
  return 1
end
if ARGV[6] ~= '' then
  local before = redis.call('HMGET', ARGV[6], 'state', 'queue')
  if not before[1] or before[1] == 'FAILURE' then
    redis.call('DEL', ARGV[7])
    write_record(prefix, ARGV[6], queue, before[1], before[2], 8)
  end
end
note_move(prefix, ARGV[5])
redis.call('LPUSH', ARGV[4], with_count(ARGV[5], 0))
wake(prefix, queue)
return 1
