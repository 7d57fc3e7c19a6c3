-- End deliveries.
-- ARGV[1]   key prefix
-- ARGV[2…]  queue and delivery tag, in turn
-- Returns   the tags that had been given to somebody else meanwhile.
-- Called by workers, many at once. O(tags * log leases).
local prefix = ARGV[1]
local refused = {}
for i = 2, #ARGV, 2 do
  redis.call('ZREM', prefix .. 'celeriac:leases:' .. ARGV[i], ARGV[i + 1])
  redis.call('SREM', prefix .. 'celeriac:started', ARGV[i + 1])
  if redis.call('HDEL', prefix .. 'celeriac:inflight', ARGV[i + 1]) == 0 then
    refused[#refused + 1] = ARGV[i + 1]
  end
end
return refused
