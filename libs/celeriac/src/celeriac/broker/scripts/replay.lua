-- Put a dead letter's message back into its queue, and set back the record of its task if that has failed; or drop it.
-- ARGV[1]   key prefix
-- ARGV[2]   queue
-- ARGV[3]   the dead letter as it stands in the list
-- ARGV[4]   the list to put the message into; '' to drop it
-- ARGV[5]   raw message
-- ARGV[6]   '' or the key of the record of its task, a hash to write in place of what it holds
-- ARGV[7]   seconds until that hash expires
-- ARGV[8]   the key of the task's result, which is forgotten with the record that was
-- ARGV[9…]  the record's fields, name and value in turn
-- Returns   1 if done; 0 if the dead letter is gone, and then nothing has changed.
-- Called by people. O(dead letters).
local prefix, queue = ARGV[1], ARGV[2]
-- From the end: where many are replayed, the oldest go first.
if redis.call('LREM', prefix .. 'celeriac:dead:' .. queue, -1, ARGV[3]) == 0 then
  return 0
end
if ARGV[4] == '' then
  return 1
end
if ARGV[6] ~= '' then
  local state = redis.call('HGET', ARGV[6], 'state')
  if not state or state == 'FAILURE' then
    redis.call('DEL', ARGV[6], ARGV[8])
    redis.call('HSET', ARGV[6], unpack(ARGV, 9))
    redis.call('EXPIRE', ARGV[6], ARGV[7])
  end
end
redis.call('LPUSH', ARGV[4], with_count(ARGV[5], 0))
wake(prefix, queue)
return 1
