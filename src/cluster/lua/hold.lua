-- A replica has holders of a job, or takes over those of another replica.
--
-- KEYS: the job. ARGV: the prefix, the job, the replica, the other one.

local ref, me, other = ARGV[2], ARGV[3], ARGV[4]
local holders = prefix .. 'holders:' .. ref

if not isReplicaLiving(me) then return 'lost' end
if other then
  redis.call('HDEL', holders, other)
  redis.call('SREM', prefix .. 'held:' .. other, ref)
end
local status = redis.call('HGET', KEYS[1], 'status')
if not status or not ACTIVE[status] or status == 'cancelling' then return 'ended' end
redis.call('HSET', holders, me, '1')
redis.call('SADD', prefix .. 'held:' .. me, ref)
return 'held'
