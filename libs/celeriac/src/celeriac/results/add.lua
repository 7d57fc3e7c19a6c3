-- Make the record of a task whose message is not published, unless it has one.
-- KEYS[1]   celeriac:task:<id>  hash  the task's record
-- ARGV[1]   seconds until it expires
-- ARGV[2…]  its fields, name and value in turn
-- Returns   1 if it was made, 0 if there is one.
-- Called by the result backend before it fails what was to follow a task. O(fields).
-- A Redis whose memory is full lets a script add only after it has removed.
redis.call('HDEL', KEYS[1], '')
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
