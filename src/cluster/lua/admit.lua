-- Jobs that a limit has held back and that may run now: from here on they count as being in no queue, until they are put there.
-- They keep their place before others of their name until they are claimed. Of each: the job, its policy.
--
-- KEYS: the names of limits that hold back jobs. ARGV: the prefix, how many, names (none: any).

local count = tonumber(ARGV[2])
local names = #ARGV > 2 and { unpack(ARGV, 3) } or redis.call('SRANDMEMBER', KEYS[1], count)

-- Those of one name may have other limits each, so the first few are looked at though there is no room for the first.
local LOOKED_AT = 8

local admitted = {}

local function admit(ref, job)
  redis.call('ZADD', prefix .. 'unqueued', 'NX', nowMs(), ref)
  admitted[#admitted + 1] = ref
  admitted[#admitted + 1] = redis.call('HGET', job, 'policy')
end

local function limitIn(limits, name)
  for limit, other in eachLimit(limits) do
    if other == name then return tonumber(limit) end
  end
end

for _, name in ipairs(names) do
  local running = redis.call('SCARD', nameRunning(name))
  local index, last = 0, LOOKED_AT
  while index < last and #admitted < 2 * count do
    local ref = redis.call('ZRANGE', nameBlocked(name), index, index)[1]
    if not ref then break end
    local job = prefix .. 'job:' .. ref
    local limit = limitIn(redis.call('HGET', job, 'limits'), name)
    if limit then
      if index < limit - running then admit(ref, job) end
      last = math.max(last, limit - running)
      index = index + 1
    else
      unblock(job, ref, name)
    end
  end
end
return admitted
