-- Tell of a change of a task's record, in a stream that keeps about the latest 10,000; gives the id of the event, which the
-- record holds. A Redis whose memory is full lets a script add only after it has removed, so this comes after that.
local function tell(prefix, task_id, state, queue, name)
  return redis.call('XADD', prefix .. 'celeriac:events', 'MAXLEN', '~', '10000', '*', 'id', task_id, 'state', state,
    'queue', queue, 'name', name or '')
end
