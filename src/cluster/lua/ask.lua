-- Asks for the end of a job; where it is not known, or there is none, may remember the request under a name.
--
-- KEYS: the job, or the tombstones. ARGV: the prefix, the job or '', the request, then, where it is to be remembered: the name, the
-- client, how long in ms, how many may be remembered in all and of one client.

local ref, request, name = ARGV[2], ARGV[3], ARGV[4]

if ref ~= '' then
  local job = prefix .. 'job:' .. ref
  local status, owner, sealed, asked = unpack(redis.call('HMGET', job, 'status', 'owner', 'sealed', 'asked'))
  if status then
    if not ACTIVE[status] then return { 'ended' } end
    if sealed then return { 'sealed' } end
    if not isAnswered(request, status) then
      request = strongerOf(asked, request)
      redis.call('HSET', job, 'asked', request)
    end
    if owner == '' then
      -- Whoever asked ends it; should that one die before, it is found here, also where a limit holds the job back.
      redis.call('ZADD', prefix .. 'unqueued', 'NX', nowMs(), ref)
      return { 'queued', request }
    end
    return { 'owned', owner }
  end
  if not name then return { 'unknown' } end
end

local client, keepMs, maxInAll, maxOfClient = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])

forgetExpired()
local known = redis.call('HGET', tombstones, name)
if not known then
  local ofClient = tonumber(redis.call('HGET', tombstoneCounts, client) or '0')
  if ofClient >= maxOfClient or redis.call('HLEN', tombstones) >= maxInAll then return { 'full' } end
  redis.call('HSET', tombstoneClients, name, client)
  redis.call('HINCRBY', tombstoneCounts, client, 1)
end
local stands, expiresAt = strongerOf(known, request), string.format('%.0f', nowMs() + keepMs)
setTombstone(name, stands, expiresAt)
return { 'remembered', stands, expiresAt }
