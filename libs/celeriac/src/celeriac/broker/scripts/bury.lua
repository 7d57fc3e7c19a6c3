-- Move a delivery to its queue's dead letters.
-- ARGV[1]  key prefix
-- ARGV[2]  queue
-- ARGV[3]  delivery tag
-- ARGV[4]  reason
-- ARGV[5]  last error
-- ARGV[6]  how many dead letters the queue keeps
-- Returns  1 if buried; 0 if the delivery is gone.
-- Called by reapers and channels. O(log leases + length of the message).
local prefix, queue, tag = ARGV[1], ARGV[2], ARGV[3]
local inflight = prefix .. 'celeriac:inflight'
local value = redis.call('HGET', inflight, tag)
redis.call('ZREM', prefix .. 'celeriac:leases:' .. queue, tag)
local started = redis.call('SREM', prefix .. 'celeriac:started', tag)
if not value then
  return 0
end
redis.call('HDEL', inflight, tag)
local owner, list, raw = split_inflight(value)
local dead = prefix .. 'celeriac:dead:' .. queue
local newest = redis.call('LINDEX', dead, 0)
-- No two of a queue at the same moment: pages are told apart by it.
local died = math.max(math.floor(now_us() / 1000), newest and died_ms(newest) + 1 or 0)
local letter = cjson.encode({
  tag = tag,
  queue = queue,
  list = list,
  worker = owner,
  reason = ARGV[4],
  error = ARGV[5],
  deliveries = delivery_count(raw) + started,
  died_ms = died,
  message = raw,
})
redis.call('LPUSH', dead, letter)
redis.call('LTRIM', dead, 0, tonumber(ARGV[6]) - 1)
return 1
