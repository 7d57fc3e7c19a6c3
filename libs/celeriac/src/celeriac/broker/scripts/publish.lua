-- Add a message to its queue, or to what waits until it is due.
-- ARGV[1]  key prefix
-- ARGV[2]  queue
-- ARGV[3]  priority, 0 to 9
-- ARGV[4]  raw message
-- ARGV[5]  '1' for a queue of tasks, which is registered; '0' for replies
-- ARGV[6]  '' or when it is due, ms since 1970
-- ARGV[7]  task id, if it may wait
-- ARGV[8]  '' or the key of a string under which it is published once
-- ARGV[9]  what is kept there
-- ARGV[10] seconds until that expires
-- ARGV[11] '' or how many messages the queue may hold
-- ARGV[12] how many rate limits there are
-- ARGV[13…] of each: the key of a string, what one takes of it, µs, and how many may come at once
-- then     '' or the key of the record to write along with it, a hash, in place of what it holds
-- then     its task id
-- then     time of its submit, ms since 1970
-- then     seconds until it expires
-- then     its fields, name and value in turn: `name` is the first, `state` is PENDING
-- Returns  1 if it is ready, 2 if it waits, 3 if it was published before: it is sent again when its answer was lost, and
--          would set back the record of a task that runs already; what is kept under ARGV[8] if something is; minus
--          the number of messages if the queue is full; of a rate limit that allows no more its number and how long to
--          wait, µs, in a list: if there are several, the one that takes longest.
-- Called by publishers. O(log delayed + log records).
local prefix, queue, raw = ARGV[1], ARGV[2], ARGV[4]
local limits = tonumber(ARGV[12])
local record = 13 + 3 * limits
local list = prefix .. queue
if ARGV[3] ~= '5' then
  list = list .. ':' .. ARGV[3]
end
local kept = ARGV[8] ~= '' and redis.call('GET', ARGV[8])
if kept then
  return kept
end
local before
if ARGV[record] ~= '' then
  before = redis.call('HMGET', ARGV[record], 'submitted_at', 'state', 'queue')
  for field = record + 4, #ARGV, 2 do
    if ARGV[field] == 'submitted_at' and ARGV[field + 1] == before[1] then
      return 3
    end
  end
end
if ARGV[11] ~= '' then
  local held = redis.call('LLEN', prefix .. queue) + redis.call('ZCARD', prefix .. 'celeriac:delayed:' .. queue)
  for priority = 0, 9 do
    held = held + redis.call('LLEN', prefix .. queue .. ':' .. priority)
  end
  if held >= tonumber(ARGV[11]) then
    return -held
  end
end
-- The generic cell rate algorithm: a string holds the moment at which all is there again, and nothing is taken from one
-- before it is known that all allow it.
if limits > 0 then
  local us = now_us()
  local moments, worst, wait = {}, 0, 0
  for number = 1, limits do
    local key, share, burst = ARGV[10 + 3 * number], tonumber(ARGV[11 + 3 * number]), tonumber(ARGV[12 + 3 * number])
    moments[number] = math.max(tonumber(redis.call('GET', key) or 0), us) + share
    local over = moments[number] - us - burst * share
    if over > wait then
      worst, wait = number, over
    end
  end
  if worst > 0 then
    return { worst, wait }
  end
  for number = 1, limits do
    redis.call('SET', ARGV[10 + 3 * number], string.format('%.0f', moments[number]), 'PX',
      math.ceil((moments[number] - us) / 1000))
  end
end
if ARGV[8] ~= '' then
  redis.call('SET', ARGV[8], ARGV[9], 'EX', ARGV[10])
end
if ARGV[5] == '1' then
  redis.call('SADD', prefix .. 'celeriac:queues', queue)
end
if ARGV[record] ~= '' then
  write_record(prefix, ARGV[record], queue, before[2], before[3], record + 1)
end
if ARGV[6] ~= '' and delay(prefix, queue, list, raw, tonumber(ARGV[6]), ARGV[7]) then
  return 2
end
redis.call('LPUSH', list, raw)
wake(prefix, queue)
return 1
