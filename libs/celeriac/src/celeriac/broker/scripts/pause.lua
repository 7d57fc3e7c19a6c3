-- Let nothing be claimed from a queue until it is resumed.
-- ARGV[1]  key prefix
-- ARGV[2]  queue
-- Returns  1; 0 if it was paused already.
-- Called by people. O(1).
-- A Redis whose memory is full lets a script add only after it has removed, and a pause may be what is to help it.
redis.call('DEL', ARGV[1] .. 'celeriac:wake:' .. ARGV[2])
return redis.call('SADD', ARGV[1] .. 'celeriac:paused', ARGV[2])
