-- One commit, whole: its changes in their order, then what became of them, a letter for each (changes.ts).
--
-- KEYS: the session. ARGV: the prefix of all keys, the commit's number, numbers whose answers arrived, the limit on a log's
-- bytes, this replica, then the changes as changes.ts puts them one behind the other.
--
-- Redis does not undo what a script has written when it fails later: everything is asked before anything is written.

local session, number, maxLogBytes, me = KEYS[1], tonumber(ARGV[2]), tonumber(ARGV[4]), ARGV[5]

local newest = tonumber(redis.call('HGET', session, 'newest'))
if newest == nil or number > newest + 1 then
  return redis.error_reply('UNORDERED a commit that was called before must come first')
end
if number <= newest then
  return redis.call('HGET', session, ARGV[2]) or redis.error_reply('FENCED the commit came too late')
end

local OK, OK_ASKED = 'o', 'a'
local EXISTS, SPENT, MISSING, STATUS, SEQUENCE, KEY_TAKEN = 'e', 'p', 'm', 's', 'q', 'k'
local FENCED, ASKED, CHANGED = 'f', 'r', 'c'

local position = 5

local function take()
  position = position + 1
  return ARGV[position]
end

local function takeOptional()
  if take() == '1' then return take() end
end

-- Names and values of a hash, one behind the other.
local function takeFields()
  local fields = {}
  for index = 1, tonumber(take()) do fields[index] = take() end
  return fields
end

local function takeEvents()
  local events = { first = tonumber(take()), last = tonumber(take()), parts = {} }
  for index = 1, tonumber(take()) do
    local first = take()
    local last = take()
    events.parts[index] = { first = first, last = last, lines = take() }
  end
  return events
end

local function follows(events, lastSeq)
  return events.first == lastSeq + 1 and events.last >= events.first
end

local function jobOf(ref)
  local key = prefix .. 'job:' .. ref
  local names = { 'status', 'lastSeq', 'logBytes', 'trimmedSeq', 'indexes', 'place', 'owner', 'asked', 'limits', 'blockedBy' }
  local found = redis.call('HMGET', key, unpack(names))
  if not found[1] then return nil end
  return {
    ref = ref,
    key = key,
    log = prefix .. 'log:' .. ref,
    status = found[1],
    lastSeq = tonumber(found[2]),
    logBytes = tonumber(found[3]),
    trimmedSeq = found[4],
    indexes = found[5],
    place = found[6],
    owner = found[7],
    asked = found[8],
    limits = found[9],
    blockedBy = found[10],
  }
end

-- Removes the oldest output until the log is as long as it may be. Events of the status stay, and so does the newest entry. With
-- each batch about as much goes as came, so that no commit removes much more than it writes.
local function trim(job, newestSeq)
  local count = 1
  while job.logBytes > maxLogBytes do
    local entries = redis.call('XRANGE', job.log, '(' .. job.trimmedSeq, '+', 'COUNT', count)
    for _, entry in ipairs(entries) do
      local seq, lines = string.match(entry[1], '^%d+'), entry[2][4]
      if job.logBytes <= maxLogBytes or seq == newestSeq then return end
      -- A batch is of outputs or of status events, never of both (JobLog.ts).
      if string.sub(lines, 1, 13) ~= '{"type":"job.' then
        redis.call('XDEL', job.log, entry[1])
        job.logBytes = job.logBytes - #lines
      end
      job.trimmedSeq = seq
    end
    if #entries < count then return end
    count = math.min(count * 2, 64)
  end
end

-- Adds to the log and tells who follows it, and writes `fields` with what this changes of the record.
local function write(job, events, fields)
  local newestSeq
  for _, part in ipairs(events.parts) do
    redis.call('XADD', job.log, part.last .. '-0', 'f', part.first, 'l', part.lines)
    redis.call('PUBLISH', job.log, part.first .. ' ' .. part.last .. '\n' .. part.lines)
    job.logBytes = job.logBytes + #part.lines
    newestSeq = part.last
  end
  if job.logBytes > maxLogBytes then trim(job, newestSeq) end
  for _, field in ipairs({ 'lastSeq', events.last, 'logBytes', job.logBytes, 'trimmedSeq', job.trimmedSeq }) do
    fields[#fields + 1] = field
  end
  redis.call('HSET', job.key, unpack(fields))
end

-- Tells who follows all jobs. A batch with a change of status is of nothing else, and its last event says how the job stands.
local function tellChange(job, events)
  for _, part in ipairs(events.parts) do
    redis.call('PUBLISH', prefix .. 'changes', job.ref .. ' ' .. part.last .. '\n' .. string.match(part.lines, '[^\n]*$'))
  end
end

-- A stream sets 4 KiB aside for what is to come, which is most of a short log; its copy has none of that.
local function pack(job)
  if job.logBytes >= 4096 then return end
  local copy = job.log .. ':copy'
  redis.call('COPY', job.log, copy)
  redis.call('RENAME', copy, job.log)
end

-- Which lists of jobs a job stands in was fixed when it was created; each is one sorted set a status.
local function setPlace(job, status, isThere)
  for index in string.gmatch(job.indexes, '[^\n]+') do
    local key = prefix .. 'index:' .. index .. ':' .. status
    if isThere then redis.call('ZADD', key, 0, job.place) else redis.call('ZREM', key, job.place) end
  end
end

local function activeMember(job)
  return job.place .. ' ' .. string.match(job.ref, '^[^:]*')
end

local function keysOf(ref)
  return prefix .. 'keys:' .. string.match(ref, '^[^:]*')
end

local function requestsOf(ref)
  return prefix .. 'requests:' .. ref
end

-- Until when what was asked of an id is kept that has no job: as long as it is spent, or for a while, and of so many.
local function keepStray(ref)
  local spentUntil = redis.call('PEXPIRETIME', prefix .. 'spent:' .. ref)
  if spentUntil > 0 then
    redis.call('PEXPIREAT', requestsOf(ref), string.format('%.0f', spentUntil))
    return
  end
  local strays, now = prefix .. 'strays', nowMs()
  local untilMs = string.format('%.0f', now + STRAY_MS)
  redis.call('PEXPIREAT', requestsOf(ref), untilMs)
  redis.call('ZREMRANGEBYSCORE', strays, '-inf', now)
  redis.call('ZADD', strays, untilMs, ref)
  for _, old in ipairs(redis.call('ZRANGE', strays, 0, -1 - MAX_STRAYS)) do
    redis.call('ZREM', strays, old)
    redis.call('UNLINK', requestsOf(old))
  end
end

local function written(job)
  return job.asked and OK_ASKED or OK
end

-- The job waits in the queue, for any replica, or is `owner`'s.
local function giveTo(job, owner)
  if owner == '' then
    redis.call('ZADD', prefix .. 'unqueued', nowMs(), job.ref)
  else
    redis.call('SADD', prefix .. 'owned:' .. owner, job.ref)
    leaveQueue(job.ref)
  end
end

local function removeHolders(job)
  for _, replica in ipairs(redis.call('HKEYS', prefix .. 'holders:' .. job.ref)) do
    redis.call('SREM', prefix .. 'held:' .. replica, job.ref)
  end
  redis.call('DEL', prefix .. 'holders:' .. job.ref)
end

local changes = {}

function changes.create()
  local ref, status, place, indexes = take(), take(), take(), take()
  local endedAt, idempotencyKey = takeOptional(), takeOptional()
  local owner, waitsUntil = takeOptional() or me, takeOptional()
  local isHeld, parent = take() == '1', takeOptional()
  local ownTombstone, groupTombstone = take(), takeOptional()
  local fields, events = takeFields(), takeEvents()
  local job = {
    ref = ref,
    key = prefix .. 'job:' .. ref,
    log = prefix .. 'log:' .. ref,
    logBytes = 0,
    trimmedSeq = '0',
    indexes = indexes,
    place = place,
  }
  if redis.call('EXISTS', job.key) == 1 then return EXISTS end
  if redis.call('EXISTS', prefix .. 'spent:' .. ref) == 1 then return SPENT end
  if idempotencyKey and redis.call('HEXISTS', keysOf(ref), idempotencyKey) == 1 then return KEY_TAKEN end
  if not follows(events, 0) then return SEQUENCE end
  if parent then
    local parentStatus, parentOwner = unpack(redis.call('HMGET', prefix .. 'job:' .. parent, 'status', 'owner'))
    if parentStatus and (not ACTIVE[parentStatus] or parentOwner ~= owner) then return FENCED end
  end
  for _, field in ipairs({ 'status', status, 'place', place, 'indexes', indexes, 'owner', owner }) do
    fields[#fields + 1] = field
  end
  if ACTIVE[status] then
    local request = remembered(ownTombstone)
    forgetTombstone(ownTombstone)
    local ofGroup = groupTombstone and remembered(groupTombstone)
    if ofGroup then request = strongerOf(request, ofGroup) end
    if request and not isAnswered(request, status) then
      job.asked = request
      fields[#fields + 1] = 'asked'
      fields[#fields + 1] = request
    end
  end
  write(job, events, fields)
  redis.call('PERSIST', requestsOf(ref))
  redis.call('ZREM', prefix .. 'strays', ref)
  tellChange(job, events)
  setPlace(job, status, true)
  if idempotencyKey then redis.call('HSET', keysOf(ref), idempotencyKey, ref) end
  if ACTIVE[status] then
    redis.call('ZADD', prefix .. 'active', 0, activeMember(job))
    giveTo(job, owner)
    -- Nobody would take over what a replica holds that is not among the living; it holds the job once it is again.
    if isHeld and isReplicaLiving(me) then
      redis.call('HSET', prefix .. 'holders:' .. ref, me, '1')
      redis.call('SADD', prefix .. 'held:' .. me, ref)
    end
    if owner == '' and waitsUntil then redis.call('ZADD', prefix .. 'waits', waitsUntil, ref) end
  else
    pack(job)
  end
  if endedAt then redis.call('ZADD', prefix .. 'ended', endedAt, ref) end
  return written(job)
end

function changes.move()
  local ref, from, status, endedAt, named = take(), take(), take(), takeOptional(), takeOptional()
  local owner = named or me
  local fields, events = takeFields(), takeEvents()
  local job = jobOf(ref)
  if not job then return MISSING end
  -- Whoever takes up a job of a replica that is gone names it, and does nothing to one that has gone on from there.
  if job.owner ~= owner and (job.owner ~= '' or named) then return FENCED end
  if job.status ~= from then return STATUS end
  if not follows(events, job.lastSeq) then return SEQUENCE end
  if job.asked and YIELDS_TO_CANCEL[status] and isCancel(job.asked) then return ASKED end
  local nextOwner = job.owner
  if status == 'queued' then nextOwner = '' elseif ACTIVE[status] then nextOwner = owner end
  for _, field in ipairs({ 'status', status, 'owner', nextOwner }) do fields[#fields + 1] = field end
  write(job, events, fields)
  tellChange(job, events)
  setPlace(job, from, false)
  setPlace(job, status, true)
  if job.asked and isAnswered(job.asked, status) then
    redis.call('HDEL', job.key, 'asked')
    job.asked = nil
  end
  if job.owner ~= '' and (nextOwner == '' or not ACTIVE[status]) then
    redis.call('SREM', prefix .. 'owned:' .. job.owner, ref)
    redis.call('HDEL', job.key, 'sealed')
  end
  if nextOwner == '' or not ACTIVE[status] then leaveLimits(job.key, ref, job.limits, job.blockedBy) end
  if not ACTIVE[status] then
    redis.call('ZREM', prefix .. 'active', activeMember(job))
    leaveQueue(ref)
    removeHolders(job)
    pack(job)
  elseif nextOwner ~= job.owner then
    giveTo(job, nextOwner)
  end
  if endedAt then redis.call('ZADD', prefix .. 'ended', endedAt, ref) end
  return written(job)
end

function changes.append()
  local ref, events = take(), takeEvents()
  local job = jobOf(ref)
  if not job then return MISSING end
  if job.owner ~= me then return FENCED end
  if job.status == 'cancelling' or not ACTIVE[job.status] then return STATUS end
  if not follows(events, job.lastSeq) then return SEQUENCE end
  write(job, events, {})
  return written(job)
end

function changes.policy()
  local ref, policy, before = take(), take(), takeOptional()
  local job = jobOf(ref)
  if not job then return MISSING end
  if not ACTIVE[job.status] then return STATUS end
  if before and redis.call('HGET', job.key, 'policy') ~= before then return CHANGED end
  redis.call('HSET', job.key, 'policy', policy)
  return OK
end

function changes.settled()
  local ref, settledAt = take(), take()
  local job = jobOf(ref)
  if not job then return MISSING end
  if job.status ~= 'abandoned' then return STATUS end
  redis.call('HSET', job.key, 'settledAt', settledAt)
  return OK
end

function changes.delete()
  local ref, spentUntil = take(), take()
  local job = jobOf(ref)
  if not job then return MISSING end
  if ACTIVE[job.status] then return STATUS end
  local idempotencyKey = redis.call('HGET', job.key, 'idempotencyKey')
  if idempotencyKey then redis.call('HDEL', keysOf(ref), idempotencyKey) end
  setPlace(job, job.status, false)
  redis.call('ZREM', prefix .. 'ended', ref)
  redis.call('UNLINK', job.key, job.log)
  if tonumber(spentUntil) > nowMs() then
    redis.call('SET', prefix .. 'spent:' .. ref, '', 'PXAT', spentUntil)
    redis.call('PEXPIREAT', requestsOf(ref), spentUntil)
  else
    redis.call('UNLINK', requestsOf(ref))
  end
  return OK
end

function changes.value()
  local name, key, json = take(), take(), takeOptional()
  local values, order = prefix .. 'values:' .. name, prefix .. 'valuekeys:' .. name
  if json then
    redis.call('HSET', values, key, json)
    redis.call('ZADD', order, 0, key)
  else
    redis.call('HDEL', values, key)
    redis.call('ZREM', order, key)
  end
  return OK
end

function changes.tombstone()
  local name, request, expiresAt = take(), takeOptional(), take()
  forgetTombstone(name)
  if request then
    forgetExpired()
    setTombstone(name, request, expiresAt)
  end
  return OK
end

-- The newest is never deleted, so that numbers go on from it.
function changes.requests()
  for _ = 1, tonumber(take()) do
    local ref, request = take(), take()
    local newest = redis.call('XREVRANGE', requestsOf(ref), '+', '-', 'COUNT', 1)[1]
    local number = newest and tonumber(string.match(newest[1], '^%d+')) + 1 or 1
    redis.call('XADD', requestsOf(ref), number .. '-0', 'r', request)
    local hasJob = redis.call('EXISTS', prefix .. 'job:' .. ref) == 1
    local max, first = MAX_REQUESTS_OF_JOB, FIRST_REQUESTS_OF_JOB
    if not hasJob and redis.call('EXISTS', prefix .. 'spent:' .. ref) == 0 then
      max, first = MAX_REQUESTS_OF_STRAY, FIRST_REQUESTS_OF_STRAY
    end
    if number > max then redis.call('XDEL', requestsOf(ref), (number - (max - first)) .. '-0') end
    if not hasJob then keepStray(ref) end
  end
  return OK
end

local results = {}
while position < #ARGV do results[#results + 1] = changes[take()]() end
local answer = table.concat(results)

for answered in string.gmatch(ARGV[3], '%d+') do redis.call('HDEL', session, answered) end
redis.call('HSET', session, 'newest', ARGV[2], ARGV[2], answer)
redis.call('PEXPIRE', session, SESSION_MS)
return answer
