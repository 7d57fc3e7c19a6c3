-- Cancel a task: it is not started any more, and its state is REVOKED at once.
-- KEYS[1]  celeriac:task:<id>                hash  the task's record
-- KEYS[2]  celeriac:revoked                  zset  revoked ids by expiry, seconds since 1970
-- KEYS[3]  celeriac:delayed:<queue>          zset  what waits until it is due in the task's queue
-- KEYS[4]  celeriac:delayed-messages:<queue> hash  the messages of these
-- KEYS[5]  prefix of all keys
-- ARGV[1]  task id
-- ARGV[2]  seconds until record and revocation expire
-- ARGV[3]  now, ISO 8601
-- ARGV[4]  '1' to leave one that runs alone, and one of which nothing is known to be revoked
-- Returns  the state before, or false where there is no record.
-- Called by cancellation. O(log revoked ids + log records).
local record = redis.call('HMGET', KEYS[1], 'state', 'queue')
local state = record[1]
if state == 'SUCCESS' or state == 'FAILURE' or state == 'REVOKED' then
  return state
end
local running = state == 'STARTED' or state == 'PROGRESS'
if ARGV[4] == '1' and running or ARGV[4] ~= '1' and not state then
  return state
end
local now = tonumber(redis.call('TIME')[1])
-- A delayed task may have longer to go than the usual time.
local expires = math.max(tonumber(ARGV[2]), redis.call('TTL', KEYS[1]))
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZADD', KEYS[2], now + expires, ARGV[1])
if state then
  redis.call('HSET', KEYS[1], 'state', 'REVOKED', 'finished_at', ARGV[3])
  redis.call('EXPIRE', KEYS[1], expires)
  move(KEYS[5], ARGV[1], record[2], state, 'REVOKED')
  redis.call('ZREM', KEYS[3], ARGV[1])
  redis.call('HDEL', KEYS[4], ARGV[1])
end
return state
