-- Take entries out of the indexes of records whose record has expired, or has gone to another index.
-- KEYS[1]  celeriac:sweeper  string  who sweeps at present
-- ARGV[1]  key prefix
-- ARGV[2]  who asks
-- ARGV[3]  for how long nobody else sweeps then, ms
-- ARGV[4]  now, ms since 1970
-- ARGV[5]  how many entries to look at, about
-- ARGV[6]  seconds for which the record of a task that has ended is kept
-- ARGV[7]  seconds for which any other is kept
-- Returns  1 if there is more to do, 0 if not, or somebody else does it.
-- Called by keepers once a second, or sooner while there is more to do. O(queues * log records + entries looked at).
-- A Redis whose memory is full lets a script add only after it has removed.
redis.call('SREM', ARGV[1] .. 'celeriac:started', '')
local sweeper = redis.call('GET', KEYS[1])
if sweeper and sweeper ~= ARGV[2] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
local prefix, now, left = ARGV[1], tonumber(ARGV[4]), tonumber(ARGV[5])
local batch = 50
local kept = { SUCCESS = ARGV[6], FAILURE = ARGV[6], REVOKED = ARGV[6] }

-- What was submitted last can be the first to expire, so all that are old enough may have to be looked at. But those that
-- were submitted one after another mostly expire so: the longer all are alive, the more of them are left out.
local function sweep(state, queue)
  local key = prefix .. 'celeriac:tasks:' .. state .. ':' .. queue
  local old = redis.call('ZCOUNT', key, '-inf', now - 1000 * (kept[state] or ARGV[7]))
  local rank, stride = 0, batch
  while rank < old and left > 0 do
    local ids = redis.call('ZRANGE', key, rank, math.min(rank + batch, old) - 1)
    local records, gone = {}, {}
    for i, id in ipairs(ids) do
      records[i] = prefix .. 'celeriac:task:' .. id
    end
    -- Mostly all of them are gone, which takes two calls to see and to do.
    if redis.call('EXISTS', unpack(records)) == 0 then
      gone = ids
      redis.call('ZREMRANGEBYRANK', key, rank, rank + #ids - 1)
    else
      for i, id in ipairs(ids) do
        local record = redis.call('HMGET', records[i], 'state', 'queue')
        if record[1] ~= state or record[2] ~= queue then
          gone[#gone + 1] = id
          redis.call('ZREM', key, id)
        end
      end
    end
    left = left - #ids
    if #gone > 0 then
      rank, old, stride = rank + #ids - #gone, old - #gone, batch
    else
      rank, stride = rank + stride, 2 * stride
    end
  end
end

local queues = redis.call('SMEMBERS', prefix .. 'celeriac:queues')
queues[#queues + 1] = ''
local states = { 'SUCCESS', 'FAILURE', 'REVOKED', 'PENDING', 'STARTED', 'PROGRESS', 'RETRY' }
-- Not always from the same one: the first may have enough to do each time.
local first = now % (#queues * #states)
for i = first, first + #queues * #states - 1 do
  local place = i % (#queues * #states)
  sweep(states[place % #states + 1], queues[math.floor(place / #states) + 1])
end
return left <= 0 and 1 or 0
