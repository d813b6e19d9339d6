-- A replica has no holders of a job any more. The fields of the record where nobody holds it now and it has not ended: then the
-- job stays among those that the replica holds until it lets go of it (letGo.lua), as what follows may still be lost with it.
--
-- KEYS: the job. ARGV: the prefix, the job, the replica, the fields.

local ref, me = ARGV[2], ARGV[3]
local holders, held = prefix .. 'holders:' .. ref, prefix .. 'held:' .. me

redis.call('HDEL', holders, me)
local status = redis.call('HGET', KEYS[1], 'status')
if redis.call('EXISTS', holders) == 1 or not status or not ACTIVE[status] then
  redis.call('SREM', held, ref)
  return false
end
return redis.call('HMGET', KEYS[1], unpack(ARGV, 4))
