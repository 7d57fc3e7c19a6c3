-- Let a delivery wait until it is due: a publisher that knows no delays put it into the queue.
-- ARGV[1]  key prefix
-- ARGV[2]  queue
-- ARGV[3]  delivery tag
-- ARGV[4]  when it is due, ms since 1970
-- ARGV[5]  task id
-- Returns  1 if it waits; 0 if the delivery is gone; 2 if it is due by Redis' clock, and stays leased.
-- Called by channels. O(log delayed).
local prefix, queue, tag = ARGV[1], ARGV[2], ARGV[3]
local inflight = prefix .. 'celeriac:inflight'
local value = redis.call('HGET', inflight, tag)
if not value then
  return 0
end
local _, list, raw = split_inflight(value)
if not delay(prefix, queue, list, raw, tonumber(ARGV[4]), ARGV[5]) then
  return 2
end
note_move(prefix, raw)
redis.call('HDEL', inflight, tag)
redis.call('ZREM', prefix .. 'celeriac:leases:' .. queue, tag)
redis.call('SREM', prefix .. 'celeriac:started', tag)
return 1
