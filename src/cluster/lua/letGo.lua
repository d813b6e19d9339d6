-- What follows from the leave of a job's last holder has been done. A replica that has a holder again keeps the job.
--
-- KEYS: the job. ARGV: the prefix, the job, the replica.

local ref, me = ARGV[2], ARGV[3]

if redis.call('HEXISTS', prefix .. 'holders:' .. ref, me) == 1 then return 0 end
return redis.call('SREM', prefix .. 'held:' .. me, ref)
