-- From here on the own outcome of jobs stands; refused to those that were asked to end before.
--
-- KEYS: the jobs. ARGV: the prefix, the replica.

return answersOf(function(job)
  local status, owner, asked = unpack(redis.call('HMGET', job, 'status', 'owner', 'asked'))
  if not status or not ACTIVE[status] or owner ~= ARGV[2] then return { 'fenced' } end
  if asked then return { 'asked', asked } end
  redis.call('HSET', job, 'sealed', '1')
  return { 'sealed' }
end)
