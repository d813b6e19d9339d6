-- Where each job stands: its status and the number of its last event, or false twice where there is no such job.
--
-- KEYS: the jobs.

local heads = {}
for index, key in ipairs(KEYS) do heads[index] = redis.call('HMGET', key, 'status', 'lastSeq') end
return heads
