-- Renew leases that are still held.
-- ARGV[1]   key prefix
-- ARGV[2]   lease, ms
-- ARGV[3…]  groups: queue, how many tags follow, the tags
-- Returns   the tags that had been given to somebody else meanwhile.
-- Called by keepers every second. O(tags * log leases).
local prefix = ARGV[1]
local deadline = math.floor(now_us() / 1000) + tonumber(ARGV[2])
local lost = {}
local i = 3
while i <= #ARGV do
  local leases = prefix .. 'celeriac:leases:' .. ARGV[i]
  local last = i + 1 + tonumber(ARGV[i + 1])
  for position = i + 2, last do
    local tag = ARGV[position]
    -- Taken out and put back: a Redis whose memory is full lets a script add only after it has removed, and a lease that
    -- cannot be renewed would be given to another.
    if redis.call('ZREM', leases, tag) == 1 then
      redis.call('ZADD', leases, deadline, tag)
    else
      lost[#lost + 1] = tag
    end
  end
  i = last + 1
end
return lost
