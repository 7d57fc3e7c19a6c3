-- Add a message to its queue, or to what waits until it is due.
-- ARGV[1]  key prefix
-- ARGV[2]  queue
-- ARGV[3]  priority, 0 to 9
-- ARGV[4]  raw message
-- ARGV[5]  '1' for a queue of tasks, which is registered; '0' for replies
-- ARGV[6]  '' or when it is due, ms since 1970
-- ARGV[7]  task id, if it may wait
-- ARGV[8]  '' or the key of a hash to write along with it, in place of what it holds
-- ARGV[9]  seconds until that hash expires
-- ARGV[10…] its fields, name and value in turn
-- Returns  1 if it is ready, 2 if it waits, 3 if it was published before: it is sent again when its answer was lost, and
--          would set back the record of a task that runs already.
-- Called by publishers. O(log delayed).
local prefix, queue, raw = ARGV[1], ARGV[2], ARGV[4]
local list = prefix .. queue
if ARGV[3] ~= '5' then
  list = list .. ':' .. ARGV[3]
end
for field = 10, #ARGV, 2 do
  if ARGV[field] == 'submitted_at' and redis.call('HGET', ARGV[8], 'submitted_at') == ARGV[field + 1] then
    return 3
  end
end
if ARGV[5] == '1' then
  redis.call('SADD', prefix .. 'celeriac:queues', queue)
end
if ARGV[8] ~= '' then
  redis.call('DEL', ARGV[8])
  redis.call('HSET', ARGV[8], unpack(ARGV, 10))
  redis.call('EXPIRE', ARGV[8], ARGV[9])
end
if ARGV[6] ~= '' and delay(prefix, queue, list, raw, tonumber(ARGV[6]), ARGV[7]) then
  return 2
end
redis.call('LPUSH', list, raw)
wake(prefix, queue)
return 1
