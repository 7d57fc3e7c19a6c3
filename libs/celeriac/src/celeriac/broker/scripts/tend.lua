-- Move what has become due to its queue, and look for leases that have ended.
-- ARGV[1]  key prefix
-- ARGV[2]  how many messages to move at most, and how many ended leases to show, for each queue
-- ARGV[3]  who looks
-- ARGV[4]  when they look again at the latest, ms from now
-- Returns  ms until the next message is due, 0 if there are more now, -1 if none waits, or two other keepers come for it;
--          then for each ended lease its queue, delivery tag and end, ms.
-- Called by keepers, at least twice a second. O(queues + messages moved * log delayed).
local prefix, limit = ARGV[1], tonumber(ARGV[2])
local now = math.floor(now_us() / 1000)
-- While Redis refuses writes nobody can renew, so this must fail, too: nobody is judged then.
redis.call('SREM', prefix .. 'celeriac:started', '')
local next_due = -1
local ended = {}
for _, queue in ipairs(redis.call('SMEMBERS', prefix .. 'celeriac:queues')) do
  local delayed = prefix .. 'celeriac:delayed:' .. queue
  local messages = prefix .. 'celeriac:delayed-messages:' .. queue
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, limit)) do
    local value = redis.call('HGET', messages, id)
    redis.call('HDEL', messages, id)
    redis.call('ZREM', delayed, id)
    if value then
      local list, raw = split_delayed(value)
      note_move(prefix, raw)
      redis.call('LPUSH', list, raw)
      wake(prefix, queue)
    end
  end
  local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
  if first[2] then
    local wait = math.max(0, tonumber(first[2]) - now)
    if next_due < 0 or wait < next_due then
      next_due = wait
    end
  end
  local leases = redis.call('ZRANGEBYSCORE', prefix .. 'celeriac:leases:' .. queue, '-inf', now - 1, 'WITHSCORES',
    'LIMIT', 0, limit)
  for i = 1, #leases, 2 do
    ended[#ended + 1] = queue
    ended[#ended + 1] = leases[i]
    ended[#ended + 1] = leases[i + 1]
  end
end
next_due = math.floor(next_due)
-- Of all who would come at that instant, two are told: one may be slow. Should both die, the others look soon anyway.
if next_due > 0 and next_due < tonumber(ARGV[4]) then
  local key, me, due = prefix .. 'celeriac:awaited', ARGV[3], string.format('%.0f', now + next_due)
  local awaited, first, second = (redis.call('GET', key) or '0 '):match('^(%d+) (%S*) ?(%S*)$')
  if tonumber(awaited) <= now or tonumber(awaited) > now + next_due then
    redis.call('SET', key, due .. ' ' .. me)
  elseif first ~= me and second == '' then
    redis.call('SET', key, awaited .. ' ' .. first .. ' ' .. me)
  elseif first ~= me and second ~= me then
    next_due = -1
  end
end
table.insert(ended, 1, next_due)
return ended
