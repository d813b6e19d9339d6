-- Replicas that have not beaten for too long, and those whose taker has not cleared up after them in its time.
--
-- KEYS: the replicas. ARGV: the prefix, the replica that takes them, how long it may take to clear up in ms.

local dead, me, now = prefix .. 'dead', ARGV[2], nowMs()

local taken = {}
for _, list in ipairs({ KEYS[1], dead }) do
  for _, id in ipairs(redis.call('ZRANGE', list, '-inf', now, 'BYSCORE')) do
    if id ~= me then taken[#taken + 1] = id end
  end
end
for _, id in ipairs(taken) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('ZADD', dead, now + tonumber(ARGV[3]), id)
end
return taken
