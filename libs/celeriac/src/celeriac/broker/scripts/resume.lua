-- Let a paused queue be claimed from again, and wake those who wait for its messages.
-- ARGV[1]  key prefix
-- ARGV[2]  queue
-- Returns  1; 0 if it was not paused.
-- Called by people. O(1).
local prefix, queue = ARGV[1], ARGV[2]
if redis.call('SREM', prefix .. 'celeriac:paused', queue) == 0 then
  return 0
end
-- Each wakes one worker; of those that find nothing the first takes the others away.
for _ = 1, 64 do
  wake(prefix, queue)
end
return 1
