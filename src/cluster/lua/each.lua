-- For scripts that answer for many jobs, KEYS: what `answer` gives for each. A job whose data is damaged holds up no other.
local function answersOf(answer)
  local answers = {}
  for index, job in ipairs(KEYS) do
    local isWell, given = pcall(answer, job, index)
    if not isWell then
      local why = type(given) == 'table' and given.err or given
      given = { 'damaged', tostring(why) }
    end
    answers[index] = given
  end
  return answers
end
