-- Forgets a replica that owns and holds nothing any more.
--
-- KEYS: the replicas. ARGV: the prefix, the replica.

local id = ARGV[2]

if redis.call('EXISTS', prefix .. 'owned:' .. id, prefix .. 'held:' .. id) > 0 then return 0 end
redis.call('ZREM', KEYS[1], id)
redis.call('ZREM', prefix .. 'dead', id)
return 1
