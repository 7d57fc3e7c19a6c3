-- Take over a delivery whose lease has ended: of all who have seen it, one.
-- ARGV[1]  key prefix
-- ARGV[2]  queue
-- ARGV[3]  delivery tag
-- ARGV[4]  the end of the lease, ms, that was seen: take over only if it is still that, and past
-- ARGV[5]  lease, ms
-- Returns  1 if taken over, for a lease from now on; 0 if the delivery is gone, or its lease has been renewed.
-- Called by reapers. O(log leases).
local leases = ARGV[1] .. 'celeriac:leases:' .. ARGV[2]
local now = now_us() / 1000
local ends = redis.call('ZSCORE', leases, ARGV[3])
if not ends or tonumber(ends) ~= tonumber(ARGV[4]) or tonumber(ends) >= now then
  return 0
end
redis.call('ZREM', leases, ARGV[3])  -- as in `renew.lua`
redis.call('ZADD', leases, math.floor(now) + tonumber(ARGV[5]), ARGV[3])
return 1
