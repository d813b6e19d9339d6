-- The newest jobs of a list, as the fields of their records that were asked for. Before them the place to go on from, where so
-- many were looked at that it is somebody else's turn; otherwise nothing.
--
-- KEYS: an index for each status. ARGV: the prefix with the tenant, how many, the place after which (or none), how many are
-- looked at, the fields that must have a value besides, each with it, and then the fields that are shown, both with their number
-- before them.

local prefix, limit, before, maxLooked = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])

local position = 4

local function takeAll()
  local all = {}
  for index = 1, tonumber(ARGV[position + 1]) do all[index] = ARGV[position + 1 + index] end
  position = position + 1 + #all
  return all
end

local filters, shown = takeAll(), takeAll()

-- A place is the time of creation in 16 digits, and the id.
local function jobAt(place)
  return prefix .. string.sub(place, 17)
end

local function passes(place)
  for index = 1, #filters, 2 do
    if redis.call('HGET', jobAt(place), filters[index]) ~= filters[index + 1] then return false end
  end
  return true
end

-- Lua compares texts as the server's locale says: ids are compared byte by byte.
local function isNewer(a, b)
  a.time, b.time = a.time or tonumber(string.sub(a.place, 1, 16)), b.time or tonumber(string.sub(b.place, 1, 16))
  if a.time ~= b.time then return a.time > b.time end
  for index = 17, math.max(#a.place, #b.place) do
    local byteA, byteB = string.byte(a.place, index) or -1, string.byte(b.place, index) or -1
    if byteA ~= byteB then return byteA > byteB end
  end
  return false
end

-- Where fields are asked for besides, few may be shown of many that are looked at.
local pageLength = #filters == 0 and limit or math.max(limit, 100)

-- A walk through one index, newest first.
local function walk(index)
  local page, at, after = {}, 0, before
  local walked = {}
  function walked.step()
    at = at + 1
    if at > #page then
      page, at = redis.call('ZRANGE', index, after, '-', 'BYLEX', 'REV', 'LIMIT', 0, pageLength), 1
      if #page > 0 then after = '(' .. page[#page] end
    end
    walked.place, walked.time = page[at], nil
  end
  walked.step()
  return walked
end

-- Those that are not at their end.
local walks = {}
for _, index in ipairs(KEYS) do
  local walked = walk(index)
  if walked.place then walks[#walks + 1] = walked end
end

local found, looked, last = { '' }, 0, ''
while #found <= limit do
  if #walks == 0 then break end
  local at = 1
  for other = 2, #walks do
    if isNewer(walks[other], walks[at]) then at = other end
  end
  if looked == maxLooked then
    found[1] = last
    break
  end
  looked, last = looked + 1, walks[at].place
  if passes(last) then found[#found + 1] = redis.call('HMGET', jobAt(last), unpack(shown)) end
  walks[at].step()
  if not walks[at].place then table.remove(walks, at) end
end
return found
