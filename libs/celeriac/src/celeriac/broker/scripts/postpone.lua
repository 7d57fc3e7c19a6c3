-- Let a delivery wait until it is due: a publisher that knows no delays put it into the queue.
-- ARGV[1]  key prefix
-- ARGV[2]  queue
-- ARGV[3]  delivery tag
-- ARGV[4]  when it is due, ms since 1970
-- ARGV[5]  task id
-- Returns  1 if it waits or is ready again; 0 if the delivery is gone.
-- Called by channels. O(log delayed).
local prefix, queue, tag = ARGV[1], ARGV[2], ARGV[3]
local inflight = prefix .. 'celeriac:inflight'
local value = redis.call('HGET', inflight, tag)
if not value then
  return 0
end
redis.call('HDEL', inflight, tag)
redis.call('ZREM', prefix .. 'celeriac:leases:' .. queue, tag)
redis.call('SREM', prefix .. 'celeriac:started', tag)
local _, list, raw = split_inflight(value)
if not delay(prefix, queue, list, raw, tonumber(ARGV[4]), ARGV[5]) then
  redis.call('RPUSH', list, raw)
  wake(prefix, queue)
end
return 1
