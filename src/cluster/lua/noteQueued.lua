-- Jobs were put into the queue. Noted of those alone that wait there: another may have been taken out again since, or still be in
-- the slot of a replica that gives it up, for which it could not be put there.
--
-- KEYS: the jobs. ARGV: the prefix, then for each the job and its name in the queue.

local waiting = prefix .. 'queue:jobs:prioritized'

return answersOf(function(_, index)
  local ref, name = ARGV[2 * index], ARGV[2 * index + 1]
  if redis.call('ZSCORE', waiting, name) then redis.call('ZREM', prefix .. 'unqueued', ref) end
  return {}
end)
