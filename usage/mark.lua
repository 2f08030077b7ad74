-- The mark of a Redis' memory: which process it is, and since when it knows everything, in microseconds of its clock. Another
-- process, or no mark: the memory begins now. ARGV[1], if given: that mark's memory has nothing to remember, whatever was
-- before it. Always writes, so whoever has an answer knows that this Redis can be written to. Gives the mark and its age.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
-- Not everybody is told which process it is; then only a mark that is gone says that it forgot.
local told = redis.pcall('INFO', 'server')
local process = type(told) == 'string' and string.match(told, 'run_id:(%w+)') or '?'
local mark = redis.pcall('GET', KEYS[1])
local marked, since = nil, nil
if type(mark) == 'string' then marked, since = string.match(mark, '^(.+):(%d+)$') end
if marked ~= process then since = string.format('%.0f', now) end
if ARGV[1] and mark == ARGV[1] then since = '0' end
mark = process .. ':' .. since
redis.call('SET', KEYS[1], mark)
return { mark, string.format('%.0f', math.max(0, now - tonumber(since))) }
