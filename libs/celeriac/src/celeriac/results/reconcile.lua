-- Fail tasks whose message is nowhere any more, unless it was moved, or anything was recorded of them, since they were
-- looked for.
-- KEYS[1]   celeriac:moved  set  who looks, and the ids of tasks whose message was moved meanwhile
-- ARGV[1]   key prefix
-- ARGV[2]   who looks
-- ARGV[3]   now, ISO 8601
-- ARGV[4]   seconds until records and results expire
-- ARGV[5]   the result of a failed task, JSON, up to its id
-- ARGV[6]   what follows the id
-- ARGV[7…]  for each task its id, and what its record said before: state, queue, submitted_at, delivery, retries, next_try
-- Returns   the ids of those that have failed now; nothing if moves were not noted all the time.
-- Called by reconciliation. O(tasks * log records).
local prefix = ARGV[1]
if redis.call('SISMEMBER', KEYS[1], ARGV[2]) == 0 then
  return {}
end
local failed = {}
for i = 7, #ARGV, 7 do
  local id = ARGV[i]
  local key = prefix .. 'celeriac:task:' .. id
  local record = redis.call('HMGET', key, 'state', 'queue', 'submitted_at', 'delivery', 'retries', 'next_try', 'name')
  local is_same = redis.call('SISMEMBER', KEYS[1], id) == 0
  for field = 1, 6 do
    is_same = is_same and (record[field] or '') == ARGV[i + field]
  end
  if is_same then
    local event = tell(prefix, id, 'FAILURE', record[2], record[7])
    redis.call('HSET', key, 'event', event, 'state', 'FAILURE', 'finished_at', ARGV[3])
    redis.call('EXPIRE', key, ARGV[4])
    move(prefix, id, record[2], record[1], 'FAILURE')
    local result_key, result = prefix .. 'celery-task-meta-' .. id, ARGV[5] .. cjson.encode(id) .. ARGV[6]
    redis.call('SET', result_key, result, 'EX', ARGV[4])
    redis.call('PUBLISH', result_key, result)
    failed[#failed + 1] = id
  end
end
return failed
