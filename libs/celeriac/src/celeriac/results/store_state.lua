-- Record a task's state, unless it has come to an end that stands.
-- KEYS[1]  celeriac:task:<id>  hash  the task's record
-- ARGV[1]  new state
-- ARGV[2]  seconds until the record expires
-- ARGV[3…] further fields, name and value in turn
-- Returns  1 if recorded; 0 if the task is REVOKED or SUCCESS already, or has no record.
-- Called by the result backend at every change of state. O(fields).
-- A message can be delivered again after its task has succeeded, when its acknowledgement was lost.
local state = redis.call('HGET', KEYS[1], 'state')
if not state or state == 'REVOKED' or state == 'SUCCESS' then
  return 0
end
redis.call('HSET', KEYS[1], 'state', ARGV[1], unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
