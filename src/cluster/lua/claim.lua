-- Takes jobs out of the queue for a replica. Answered again like the first time, as long as the replica has not moved the job.
--
-- KEYS: the jobs. ARGV: the prefix, the replica, how many fields a record has, these, then the jobs.

local me, count = ARGV[2], tonumber(ARGV[3])
local isLiving = isReplicaLiving(me)

-- The first of its limits that holds the job back: it may run where fewer wait before it than there is room for.
local function hindranceOf(ref, limits, rank)
  for limit, name in eachLimit(limits) do
    if redis.call('SISMEMBER', nameRunning(name), ref) == 0 then
      local ahead = redis.call('ZRANK', nameBlocked(name), ref) or redis.call('ZCOUNT', nameBlocked(name), '-inf', rank)
      if ahead >= roomIn(name, limit) then return name end
    end
  end
end

return answersOf(function(job, index)
  local ref = ARGV[3 + count + index]
  local names = { 'status', 'owner', 'asked', 'limits', 'rank', 'blockedBy' }
  local status, owner, asked, limits, rank, blockedBy = unpack(redis.call('HMGET', job, unpack(names)))
  if not status then return { 'unknown' } end
  if not ACTIVE[status] then return { 'ended' } end
  if owner ~= '' and (owner ~= me or status ~= 'queued') then return { 'owned', owner } end
  if asked then return { 'asked', redis.call('HMGET', job, unpack(ARGV, 4, 3 + count)), asked } end
  if not isLiving then return { 'lost' } end
  local hindrance = hindranceOf(ref, limits, rank)
  if blockedBy and blockedBy ~= hindrance then unblock(job, ref, blockedBy) end
  if hindrance then
    if blockedBy ~= hindrance then block(job, ref, hindrance, rank) end
    redis.call('ZREM', prefix .. 'unqueued', ref)
    return { 'limited' }
  end
  for _, name in eachLimit(limits) do redis.call('SADD', nameRunning(name), ref) end
  redis.call('HSET', job, 'owner', me)
  redis.call('SADD', prefix .. 'owned:' .. me, ref)
  leaveQueue(ref)
  return { 'claimed', redis.call('HMGET', job, unpack(ARGV, 4, 3 + count)) }
end)
