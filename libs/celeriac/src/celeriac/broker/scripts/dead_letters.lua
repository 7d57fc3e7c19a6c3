-- Show a part of a queue's dead letters, beginning at a moment. A moment and no position, so that letters which come and
-- go between two looks shift nothing.
-- ARGV[1]  key prefix
-- ARGV[2]  queue
-- ARGV[3]  'older' for those that died before the moment; 'newer' for those that died after it
-- ARGV[4]  the moment, ms since 1970
-- ARGV[5]  how many at most
-- Returns  the letters, the nearest to the moment first.
-- Called by people. O(log dead letters + letters shown), and as much again to reach them in the list.
local dead = ARGV[1] .. 'celeriac:dead:' .. ARGV[2]
local newer, moment, count = ARGV[3] == 'newer', tonumber(ARGV[4]), tonumber(ARGV[5])
-- The list is newest first: find the first letter that is older.
local low, high = 0, redis.call('LLEN', dead)
while low < high do
  local middle = math.floor((low + high) / 2)
  local died = died_ms(redis.call('LINDEX', dead, middle))
  if died > moment or died == moment and not newer then
    low = middle + 1
  else
    high = middle
  end
end
if not newer then
  return redis.call('LRANGE', dead, low, low + count - 1)
end
local shown = {}
if low > 0 then
  local letters = redis.call('LRANGE', dead, math.max(0, low - count), low - 1)
  for i = #letters, 1, -1 do
    shown[#shown + 1] = letters[i]
  end
end
return shown
