-- Gives jobs of BullMQ's queue their turns, so that tenants take turns at equal priority: start-time fair queueing with a cost of 1 a
-- job (Goyal, Vin and Cheng, SIGCOMM 1996). A job's turn is the one after its tenant's last, no earlier than that of whoever is
-- first now, and never later than behind all that have theirs. BullMQ puts a job at its priority times 2^32, and a count of jobs;
-- turns are before that, where the counts of the priority above never come: one that has none yet goes behind those that have, for
-- a moment. A job keeps its turn (as its score in `turn`) when it is added again.
--
-- KEYS: those that wait, what is known of turns, the jobs. ARGV: for each its name, its priority's number, its tenant.

local waiting, known = KEYS[1], KEYS[2]
local PRIORITY, TURNS = 2 ^ 32, 2 ^ 31

local function text(number)
  return string.format('%.0f', number)
end

local function get(field, otherwise)
  return tonumber(redis.call('HGET', known, field) or otherwise)
end

for index = 3, #KEYS do
  local name, priority, tenant = unpack(ARGV, 3 * index - 8, 3 * index - 6)
  if redis.call('ZSCORE', waiting, name) and redis.call('HEXISTS', KEYS[index], 'turn') == 0 then
    local base, last = tonumber(priority) * PRIORITY - TURNS, priority .. ' ' .. tenant
    local ending = '(' .. text(tonumber(priority) * PRIORITY)
    local first = redis.call('ZRANGE', waiting, text(base), ending, 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')[2]
    local newest = redis.call('ZRANGE', waiting, ending, text(base), 'BYSCORE', 'REV', 'LIMIT', 0, 1, 'WITHSCORES')[2]
    -- The turn that it is: of whoever is first, or, where nobody waits, no earlier than any that was given.
    local now = math.max(get('now ' .. priority, 0), first and tonumber(first) - base or get('top ' .. priority, 0))
    local behindAll = newest and math.max(now, tonumber(newest) - base + 1) or now
    local turn = math.min(math.max(get(last, -1) + 1, now), behindAll)
    redis.call('ZADD', waiting, 'XX', text(base + turn), name)
    redis.call('HSET', KEYS[index], 'turn', text(base + turn))
    redis.call('HSET', known, last, text(turn), 'now ' .. priority, text(now))
    redis.call('HSET', known, 'top ' .. priority, text(math.max(get('top ' .. priority, 0), turn)))
  end
end
redis.call('PEXPIRE', known, 86400000)
