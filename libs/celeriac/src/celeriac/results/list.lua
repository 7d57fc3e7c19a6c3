-- Show records, the newest first: a merge of the indexes of queues and states. Entries whose record has expired, or has
-- gone to another index, are dropped on the way.
-- ARGV[1]  key prefix
-- ARGV[2]  how many to show at most
-- ARGV[3]  how many to look at at most
-- ARGV[4]  submitted at this moment or later, ms since 1970; '-inf' for any
-- ARGV[5]  submitted at this moment or earlier; '+inf' for any
-- ARGV[6]  '' or a task id: of those submitted at the moment of ARGV[5] only what stands behind it
-- ARGV[7]  '' or the only queue
-- ARGV[8]  '' or the only name
-- ARGV[9…] the states
-- Returns  '' if there are no more, otherwise the time of the last that was looked at; its id; and of each that is shown
--          the id and the fields of the record, name and value in turn.
-- Called by people. O(queues * states * log records + looked at * log(queues * states)).
local prefix, limit, walk, since, name = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[8]

-- Whether an id stands behind another in an index read backwards: Redis compares bytes, Lua would by the locale.
local function is_behind(id, other)
  for i = 1, math.min(#id, #other) do
    local byte, other_byte = id:byte(i), other:byte(i)
    if byte ~= other_byte then
      return byte < other_byte
    end
  end
  return #id < #other
end

local queues = { ARGV[7] }
if ARGV[7] == '' then
  queues = redis.call('SMEMBERS', prefix .. 'celeriac:queues')
  queues[#queues + 1] = ''
end
local chunk = math.max(10, math.ceil((name == '' and limit or walk) / (#queues * (#ARGV - 8))))

-- Read on in an index, behind a moment and an id; false at its end. Those of one moment may fill more than a chunk.
local function refill(source, moment, id)
  local skipped = 0
  source.next, source.entries = 1, {}
  repeat
    local found = redis.call('ZREVRANGEBYSCORE', source.key, moment, since, 'WITHSCORES', 'LIMIT', skipped, chunk)
    for i = 1, #found, 2 do
      if id == '' or found[i + 1] ~= moment or is_behind(found[i], id) then
        source.entries[#source.entries + 1] = { id = found[i], moment = found[i + 1], ms = tonumber(found[i + 1]) }
      end
    end
    skipped = skipped + chunk
  until #source.entries > 0 or #found < 2 * chunk
  source.head = source.entries[1]
  return source.head ~= nil
end

local sources = {}
for _, queue in ipairs(queues) do
  for i = 9, #ARGV do
    local source = { state = ARGV[i], queue = queue, key = prefix .. 'celeriac:tasks:' .. ARGV[i] .. ':' .. queue }
    if refill(source, ARGV[5], ARGV[6]) then
      sources[#sources + 1] = source
    end
  end
end

local function is_newer(source, other)
  local one, two = source.head, other.head
  return one.ms > two.ms or one.ms == two.ms and is_behind(two.id, one.id)
end

-- The sources are a heap, the one with the newest entry first: let one sink to its place.
local function sink(place)
  local source = sources[place]
  while 2 * place <= #sources do
    local child = 2 * place
    if child < #sources and is_newer(sources[child + 1], sources[child]) then
      child = child + 1
    end
    if is_newer(source, sources[child]) then
      break
    end
    sources[place], place = sources[child], child
  end
  sources[place] = source
end

for place = math.floor(#sources / 2), 1, -1 do
  sink(place)
end
local last, looked = nil, 0
local shown = {}
while #sources > 0 and looked < walk and #shown < 2 * limit do
  local source = sources[1]
  last, looked = source.head, looked + 1
  local key = prefix .. 'celeriac:task:' .. last.id
  local record = redis.call('HMGET', key, 'state', 'queue', 'name')
  if record[1] ~= source.state or record[2] ~= source.queue then
    redis.call('ZREM', source.key, last.id)
  elseif name == '' or record[3] == name then
    shown[#shown + 1] = last.id
    shown[#shown + 1] = redis.call('HGETALL', key)
  end
  source.next = source.next + 1
  source.head = source.entries[source.next]
  if not source.head and not refill(source, last.moment, last.id) then
    sources[1] = sources[#sources]
    sources[#sources] = nil
  end
  if #sources > 0 then
    sink(1)
  end
end
local goes_on = #sources > 0
return { goes_on and last.moment or '', goes_on and last.id or '', unpack(shown) }
