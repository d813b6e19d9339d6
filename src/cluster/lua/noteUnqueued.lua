-- A job that may have left the queue before anybody claimed it.
--
-- KEYS: the job. ARGV: the prefix, the job.

local status, owner = unpack(redis.call('HMGET', KEYS[1], 'status', 'owner'))
if status == 'queued' and owner == '' then redis.call('ZADD', prefix .. 'unqueued', 'NX', nowMs(), ARGV[2]) end
return 0
