-- Requests to end jobs, for the scripts that are put behind this. A request is the JSON of a StoredRequest; a tombstone is one
-- for a job or a group that is not known yet.

local prefix = ARGV[1]

local tombstones, tombstoneEnds = prefix .. 'tombstones', prefix .. 'tombstones:ends'
local tombstoneClients, tombstoneCounts = prefix .. 'tombstones:clients', prefix .. 'tombstones:counts'

-- Ends that are refused to a job that was asked for a cancel and has not been cancelling.
local YIELDS_TO_CANCEL = { succeeded = true, failed = true, stopped = true }

local function nowMs()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function isCancel(request)
  return cjson.decode(request).kind == 'cancel'
end

-- Cancel beats stop; otherwise the first stands.
local function strongerOf(first, second)
  if not first or (not isCancel(first) and isCancel(second)) then return second end
  return first
end

-- Whether a job with this status does what is asked already.
local function isAnswered(request, status)
  if status == 'stopping' then return not isCancel(request) end
  return status == 'cancelling' or not ACTIVE[status]
end

-- What a replica that does not live has, nobody would find, or others have taken up by now.
local function isReplicaLiving(id)
  local livesUntil = redis.call('ZSCORE', prefix .. 'replicas', id)
  return livesUntil and tonumber(livesUntil) > nowMs()
end

local function leaveQueue(ref)
  redis.call('ZREM', prefix .. 'unqueued', ref)
  redis.call('ZREM', prefix .. 'waits', ref)
end

-- What is remembered under a name and has not expired.
local function remembered(name)
  local expiresAt = redis.call('ZSCORE', tombstoneEnds, name)
  if expiresAt and tonumber(expiresAt) > nowMs() then return redis.call('HGET', tombstones, name) end
  return nil
end

local function setTombstone(name, request, expiresAt)
  redis.call('HSET', tombstones, name, request)
  redis.call('ZADD', tombstoneEnds, expiresAt, name)
end

local function forgetTombstone(name)
  if redis.call('ZREM', tombstoneEnds, name) == 0 then return end
  redis.call('HDEL', tombstones, name)
  local client = redis.call('HGET', tombstoneClients, name)
  if not client then return end
  redis.call('HDEL', tombstoneClients, name)
  if redis.call('HINCRBY', tombstoneCounts, client, -1) <= 0 then redis.call('HDEL', tombstoneCounts, client) end
end

local function forgetExpired()
  for _, name in ipairs(redis.call('ZRANGE', tombstoneEnds, '-inf', nowMs(), 'BYSCORE')) do forgetTombstone(name) end
end
