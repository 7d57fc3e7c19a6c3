-- Cancel a task that has not ended.
-- KEYS[1]  celeriac:task:<id>  hash  the task's record
-- KEYS[2]  celeriac:revoked    zset  revoked ids by expiry, seconds since 1970
-- ARGV[1]  task id
-- ARGV[2]  seconds until record and revocation expire
-- ARGV[3]  now, ISO 8601
-- Returns  the state before, or false where there is no record.
-- Called by cancellation. O(log n) in the number of revoked ids.
local state = redis.call('HGET', KEYS[1], 'state')
if not state or state == 'SUCCESS' or state == 'FAILURE' or state == 'REVOKED' then
  return state
end
local now = tonumber(redis.call('TIME')[1])
redis.call('HSET', KEYS[1], 'state', 'REVOKED', 'finished_at', ARGV[3])
-- A delayed task may have longer to go than the usual time.
local expires = math.max(tonumber(ARGV[2]), redis.call('TTL', KEYS[1]))
redis.call('EXPIRE', KEYS[1], expires)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZADD', KEYS[2], now + expires, ARGV[1])
return state
