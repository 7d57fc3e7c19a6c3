-- Move a task from the index of one state to that of another; it keeps its place, the time of its submit.
local function move(prefix, task_id, queue, from, to)
  if from == to then
    return
  end
  local indexes = prefix .. 'celeriac:tasks:'
  from, to = indexes .. from .. ':' .. queue, indexes .. to .. ':' .. queue
  local submitted = redis.call('ZSCORE', from, task_id)
  if submitted then
    redis.call('ZREM', from, task_id)
    redis.call('ZADD', to, submitted, task_id)
  end
end
