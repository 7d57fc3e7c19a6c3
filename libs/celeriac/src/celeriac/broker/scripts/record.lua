-- Write a record in place of what its key holds, and move it to the index of its queue and state: a sorted set of task ids
-- by the time of their submit. From ARGV[first]: task id, time of its submit, seconds until it expires, its fields, of
-- which `name` is the first.
local function write_record(prefix, key, queue, old_state, old_queue, first)
  local indexes = prefix .. 'celeriac:tasks:'
  redis.call('DEL', key)
  if old_state then
    redis.call('ZREM', indexes .. old_state .. ':' .. old_queue, ARGV[first])
  end
  local event = tell(prefix, ARGV[first], 'PENDING', queue, ARGV[first + 4])
  redis.call('HSET', key, 'event', event, unpack(ARGV, first + 3))
  redis.call('EXPIRE', key, ARGV[first + 2])
  redis.call('ZADD', indexes .. 'PENDING:' .. queue, ARGV[first + 1], ARGV[first])
end
