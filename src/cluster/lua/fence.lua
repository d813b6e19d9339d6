-- From here on no commit of the session up to a number takes effect, unless it has already; and what became of one of them.
--
-- KEYS: the session. ARGV: the number, the number of the commit that is asked for.

local session, number = KEYS[1], tonumber(ARGV[1])
local newest = tonumber(redis.call('HGET', session, 'newest'))
if newest == nil or newest < number then redis.call('HSET', session, 'newest', ARGV[1]) end
redis.call('PEXPIRE', session, SESSION_MS)
return redis.call('HGET', session, ARGV[2])
