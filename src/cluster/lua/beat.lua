-- A replica lives, and counts as living for a while.
--
-- KEYS: the replicas. ARGV: the prefix, the replica, for how long in ms.

local clearedBy = redis.call('ZSCORE', prefix .. 'dead', ARGV[2])
-- Where its taker is long overdue and nobody else took its place, there is nobody: it has given up its jobs itself by now.
if clearedBy and tonumber(clearedBy) + 10000 > nowMs() then return 'dead' end
if clearedBy then redis.call('ZREM', prefix .. 'dead', ARGV[2]) end
if redis.call('ZADD', KEYS[1], nowMs() + tonumber(ARGV[3]), ARGV[2]) == 1 then return 'joined' end
return 'kept'
