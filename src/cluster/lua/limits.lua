-- Limits that several jobs share, for the scripts that are put behind this. A job's `limits` are lines of NUMBER NAME: at most so
-- many of the jobs with that name run at once. One that may not run waits in `blocked:NAME` of the first limit that holds it
-- back, by its `rank`, and not in the queue.

local function eachLimit(limits)
  return string.gmatch(limits or '', '(%d+) ([^\n]+)')
end

local function nameRunning(name)
  return prefix .. 'running:' .. name
end

local function nameBlocked(name)
  return prefix .. 'blocked:' .. name
end

-- How many more of a name may run, as far as a job with this limit is concerned.
local function roomIn(name, limit)
  return tonumber(limit) - redis.call('SCARD', nameRunning(name))
end

local function block(job, ref, name, rank)
  redis.call('ZADD', nameBlocked(name), rank, ref)
  redis.call('SADD', prefix .. 'limits', name)
  redis.call('SADD', prefix .. 'blocked', ref)
  redis.call('HSET', job, 'blockedBy', name)
end

local function unblock(job, ref, name)
  redis.call('ZREM', nameBlocked(name), ref)
  if redis.call('EXISTS', nameBlocked(name)) == 0 then redis.call('SREM', prefix .. 'limits', name) end
  redis.call('SREM', prefix .. 'blocked', ref)
  redis.call('HDEL', job, 'blockedBy')
end

-- The job runs no more, or not yet again.
local function leaveLimits(job, ref, limits, blockedBy)
  for _, name in eachLimit(limits) do redis.call('SREM', nameRunning(name), ref) end
  if blockedBy then unblock(job, ref, blockedBy) end
end
