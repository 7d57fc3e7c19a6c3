-- Move a delivery to its queue's dead letters.
-- ARGV[1]  key prefix
-- ARGV[2]  queue
-- ARGV[3]  delivery tag
-- ARGV[4]  '' or the end of the lease, ms, that was seen: bury only if it is still that, and past
-- ARGV[5]  reason
-- ARGV[6]  last error
-- ARGV[7]  how many dead letters the queue keeps
-- Returns  1 if buried; 0 if the delivery is gone; -1 if its lease has been renewed.
-- Called by reapers and channels. O(log leases + length of the message).
local prefix, queue, tag = ARGV[1], ARGV[2], ARGV[3]
local leases = prefix .. 'celeriac:leases:' .. queue
if ARGV[4] ~= '' then
  local ends = redis.call('ZSCORE', leases, tag)
  if ends and (tonumber(ends) ~= tonumber(ARGV[4]) or tonumber(ends) >= now_us() / 1000) then
    return -1
  end
end
local inflight = prefix .. 'celeriac:inflight'
local value = redis.call('HGET', inflight, tag)
redis.call('ZREM', leases, tag)
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
  reason = ARGV[5],
  error = ARGV[6],
  deliveries = delivery_count(raw) + started,
  died_ms = died,
  message = raw,
})
redis.call('LPUSH', dead, letter)
redis.call('LTRIM', dead, 0, tonumber(ARGV[7]) - 1)
return 1
