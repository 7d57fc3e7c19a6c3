-- Redis' own clock, microseconds since 1970: the only one that leases know.
local function now_us()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end
