-- Members of a sorted set of times, the earliest first, that passed some time ago.
--
-- KEYS: the set. ARGV: the prefix, how long ago in ms, how many.

return redis.call('ZRANGE', KEYS[1], '-inf', nowMs() - tonumber(ARGV[2]), 'BYSCORE', 'LIMIT', 0, ARGV[3])
