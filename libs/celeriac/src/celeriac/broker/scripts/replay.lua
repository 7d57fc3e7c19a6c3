-- Put a dead letter's message back into its queue, or drop it.
-- ARGV[1]  key prefix
-- ARGV[2]  queue
-- ARGV[3]  the dead letter as it stands in the list
-- ARGV[4]  the list to put the message into; '' to drop it
-- ARGV[5]  raw message
-- Returns  1 if done; 0 if the dead letter is gone.
-- Called by people. O(dead letters).
local prefix, queue = ARGV[1], ARGV[2]
-- From the end: where many are replayed, the oldest go first.
if redis.call('LREM', prefix .. 'celeriac:dead:' .. queue, -1, ARGV[3]) == 0 then
  return 0
end
if ARGV[4] ~= '' then
  redis.call('LPUSH', ARGV[4], with_count(ARGV[5], 0))
  wake(prefix, queue)
end
return 1
