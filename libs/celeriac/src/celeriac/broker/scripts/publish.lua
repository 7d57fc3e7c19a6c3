-- Add a message to its queue, or to what waits until it is due.
-- ARGV[1]  key prefix
-- ARGV[2]  queue
-- ARGV[3]  priority, 0 to 9
-- ARGV[4]  raw message
-- ARGV[5]  '1' for a queue of tasks, which is registered; '0' for replies
-- ARGV[6]  '' or when it is due, ms since 1970
-- ARGV[7]  task id, if it may wait
-- ARGV[8]  '' or the key of a string under which it is published once
-- ARGV[9]  what is kept there
-- ARGV[10] seconds until that expires
-- ARGV[11] '' or how many messages the queue may hold
-- ARGV[12] '' or the key of the record to write along with it, a hash, in place of what it holds
-- ARGV[13] its task id
-- ARGV[14] time of its submit, ms since 1970
-- ARGV[15] seconds until it expires
-- ARGV[16…] its fields, name and value in turn; `state` is PENDING
-- Returns  1 if it is ready, 2 if it waits, 3 if it was published before: it is sent again when its answer was lost, and
--          would set back the record of a task that runs already; what is kept under ARGV[8] if something is; minus
--          the number of messages if the queue is full.
-- Called by publishers. O(log delayed + log records).
local prefix, queue, raw = ARGV[1], ARGV[2], ARGV[4]
local list = prefix .. queue
if ARGV[3] ~= '5' then
  list = list .. ':' .. ARGV[3]
end
local kept = ARGV[8] ~= '' and redis.call('GET', ARGV[8])
if kept then
  return kept
end
local before
if ARGV[12] ~= '' then
  before = redis.call('HMGET', ARGV[12], 'submitted_at', 'state', 'queue')
  for field = 16, #ARGV, 2 do
    if ARGV[field] == 'submitted_at' and ARGV[field + 1] == before[1] then
      return 3
    end
  end
end
if ARGV[11] ~= '' then
  local held = redis.call('LLEN', prefix .. queue) + redis.call('ZCARD', prefix .. 'celeriac:delayed:' .. queue)
  for priority = 0, 9 do
    held = held + redis.call('LLEN', prefix .. queue .. ':' .. priority)
  end
  if held >= tonumber(ARGV[11]) then
    return -held
  end
end
if ARGV[8] ~= '' then
  redis.call('SET', ARGV[8], ARGV[9], 'EX', ARGV[10])
end
if ARGV[5] == '1' then
  redis.call('SADD', prefix .. 'celeriac:queues', queue)
end
if ARGV[12] ~= '' then
  write_record(prefix, ARGV[12], queue, before[2], before[3], 13)
end
if ARGV[6] ~= '' and delay(prefix, queue, list, raw, tonumber(ARGV[6]), ARGV[7]) then
  return 2
end
redis.call('LPUSH', list, raw)
wake(prefix, queue)
return 1
