-- A job that a replica took from the queue and has not begun to run waits for any replica again.
--
-- KEYS: the job. ARGV: the prefix, the job, the replica, when its wait is over (or none).

local ref, owner, waitsUntil = ARGV[2], ARGV[3], ARGV[4]

local status, current, limits = unpack(redis.call('HMGET', KEYS[1], 'status', 'owner', 'limits'))
if status ~= 'queued' or current ~= owner then return 0 end
redis.call('HSET', KEYS[1], 'owner', '')
redis.call('SREM', prefix .. 'owned:' .. owner, ref)
leaveLimits(KEYS[1], ref, limits)
redis.call('ZADD', prefix .. 'unqueued', nowMs(), ref)
if waitsUntil then redis.call('ZADD', prefix .. 'waits', waitsUntil, ref) end
return 1
