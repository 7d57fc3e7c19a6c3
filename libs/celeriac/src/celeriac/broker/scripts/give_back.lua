-- Return a delivery to its list. Compare and move on one HDEL: of two reapers, a late acknowledgement and a shutdown,
-- in any order, exactly one wins.
-- ARGV[1]  key prefix
-- ARGV[2]  queue
-- ARGV[3]  delivery tag
-- ARGV[4]  'head' to be the next, 'tail' to be the last
-- ARGV[5]  '' or the end of the lease, ms, that was seen: give back only if it is still that, and past
-- ARGV[6]  what to do if its task was started: 'count' the delivery, 'return' it all the same, or 'leave' it
-- Returns  1 if returned; 0 if the delivery is gone; -1 if its lease has been renewed; -2 if it was left.
-- Called by reapers, shutdown, reject. O(log leases + length of the message).
local prefix, queue, tag = ARGV[1], ARGV[2], ARGV[3]
local leases = prefix .. 'celeriac:leases:' .. queue
if ARGV[5] ~= '' then
  local ends = redis.call('ZSCORE', leases, tag)
  if ends and (tonumber(ends) ~= tonumber(ARGV[5]) or tonumber(ends) >= now_us() / 1000) then
    return -1
  end
end
if ARGV[6] == 'leave' and redis.call('SISMEMBER', prefix .. 'celeriac:started', tag) == 1 then
  return -2
end
local inflight = prefix .. 'celeriac:inflight'
local value = redis.call('HGET', inflight, tag)
redis.call('ZREM', leases, tag)
local started = redis.call('SREM', prefix .. 'celeriac:started', tag) == 1
if not value then
  return 0
end
redis.call('HDEL', inflight, tag)
local _, list, raw = split_inflight(value)
if started and ARGV[6] == 'count' then
  raw = with_count(raw, delivery_count(raw) + 1)
end
note_move(prefix, raw)
redis.call(ARGV[4] == 'head' and 'RPUSH' or 'LPUSH', list, raw)
wake(prefix, queue)
return 1
