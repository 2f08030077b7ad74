-- usage/buckets.py, word for word, inside Redis. KEYS: the levels of a batch, then the memory's mark. ARGV: the batch, with
-- levels as places in KEYS (from 1), as MessagePack; the mark as the worker knows it. Gives the answers as MessagePack; or
-- nothing, and has done nothing, if the mark is another one: what was counted here is forgotten (usage/stores_redis.py). A level
-- whose key holds something else than we wrote is forgotten alone.
-- Arrays stand where Python has structs, in the same order.

local SECOND, MINUTE, DAY = 1000000, 60000000, 86400000000
local MAX_LIFE, SLOT_LIFE = 2000000, 10000000
local PARTS, DAYS, SHARE, SLACK, PLENTY = 60, 4, 16, 1.0, 2 ^ 50
local REQUESTS, DAILY, TOKENS, SLOTS = 0, 1, 2, 3

local time = redis.call('TIME')
local now = tonumber(time[1]) * SECOND + tonumber(time[2])
if ARGV[3] then now = tonumber(ARGV[3]) end
local today = (now - now % DAY) / DAY

local function advance_runs(runs, period)
  for n = #runs, 1, -1 do
    if runs[n][1] <= now + MAX_LIFE then break end
    runs[n][1] = now + MAX_LIFE
  end
  local kept = {}
  for _, run in ipairs(runs) do
    if run[1] + period > now then kept[#kept + 1] = run end
  end
  return kept
end

local function advance(state)
  local windows, holders = {}, {}
  for _, used in ipairs(state[1]) do
    used[4] = advance_runs(used[4], used[1])
    if #used[4] > 0 then windows[#windows + 1] = used end
  end
  for _, holder in ipairs(state[4]) do
    holder[3] = math.min(holder[3], now + SLOT_LIFE)
    if holder[3] > now and holder[2] > 0 then holders[#holders + 1] = holder end
  end
  return { windows, state[2], advance_runs(state[3], MINUTE), holders }
end

local function add(runs, period, moment, count)
  local width = math.floor((period + MAX_LIFE) / PARTS)
  local last = runs[#runs]
  if last and (moment <= last[1] or moment - moment % width == last[1] - last[1] % width) then
    last[1] = math.max(last[1], moment)
    last[2] = last[2] + count
  else
    runs[#runs + 1] = { moment, count }
  end
end

local function take_out(runs, period, moment, count)
  if moment + period <= now then return end
  for _, run in ipairs(runs) do
    if run[1] >= moment then
      run[2] = run[2] - math.min(run[2], count)
      return
    end
  end
end

local function sum(runs)
  local total = 0
  for _, run in ipairs(runs) do total = total + run[2] end
  return total
end

local function wait_for(runs, period, surplus)
  local wait = 0
  for _, run in ipairs(runs) do
    if surplus <= 0 then break end
    surplus = surplus - run[2]
    wait = run[1] + period - now
  end
  return wait
end

local function reset_of(runs, period)
  for n = #runs, 1, -1 do
    if runs[n][2] > 0 then return runs[n][1] + period - now end
  end
  return 0
end

local function used_of(state, period)
  for _, used in ipairs(state[1]) do
    if used[1] == period then return used end
  end
  local used = { period, 0, 0, {} }
  state[1][#state[1] + 1] = used
  return used
end

local function hold(state, holder, slots)
  local kept = {}
  for _, each in ipairs(state[4]) do
    if each[1] ~= holder then kept[#kept + 1] = each end
  end
  if slots > 0 then kept[#kept + 1] = { holder, slots, now + SLOT_LIFE } end
  state[4] = kept
end

local function put_back(state, back)
  local moment, day, requests, tokens = back[2], back[3], back[4], back[5]
  if requests > 0 then
    for _, used in ipairs(state[1]) do
      take_out(used[4], used[1], moment, requests)
      used[2] = used[2] - requests * used[3]
    end
    for _, each in ipairs(state[2]) do
      if each[1] == day then each[2] = each[2] - math.min(each[2], requests) end
    end
  end
  if tokens > 0 then
    take_out(state[3], MINUTE, moment, tokens)
  elseif tokens < 0 then
    add(state[3], MINUTE, now, -tokens)
  end
end

local function step_of(window) return window[1] / window[2] end

local function over(used, window)
  return math.min(math.max(0, used[2] - now), window[3] * step_of(window))
end

local function at_once(used, window)
  local step = step_of(window)
  return math.floor((window[3] * step - over(used, window) + SLACK) / step)
end

local function busiest_day(state, life)
  local last, most = math.floor((now + life) / DAY), 0
  for _, day in ipairs(state[2]) do
    if day[1] >= today and day[1] <= last then most = math.max(most, day[2]) end
  end
  return most
end

local function slots_of(state, part, mine)
  local total = 0
  for _, each in ipairs(state[4]) do
    if (each[1] == part[3]) == mine then total = total + each[2] end
  end
  return total
end

local function room_of(part, state, life)
  local rules, requests = part[2], PLENTY
  for _, window in ipairs(rules[1]) do
    local used = used_of(state, window[1])
    requests = math.min(requests, window[2] - sum(used[4]))
    if window[3] > 0 then requests = math.min(requests, at_once(used, window)) end
  end
  if rules[2] > 0 then requests = math.min(requests, rules[2] - busiest_day(state, life)) end
  local tokens, slots = PLENTY, PLENTY
  if rules[3] > 0 then tokens = rules[3] - sum(state[3]) end
  if rules[4] > 0 then slots = rules[4] - slots_of(state, part, false) - part[4] end
  return { math.max(0, requests), tokens, math.max(0, slots) }
end

local function extra(like, room)
  return math.max(0, math.min(like, math.floor(room / SHARE)))
end

local function count_day(state, day, requests)
  for _, each in ipairs(state[2]) do
    if each[1] == day then
      each[2] = each[2] + requests
      return
    end
  end
  state[2][#state[2] + 1] = { day, requests }
  if #state[2] > DAYS then
    local first = 1
    for n, each in ipairs(state[2]) do
      if each[1] < state[2][first][1] then first = n end
    end
    table.remove(state[2], first)
  end
end

local function least_left(rules, state, life)
  local limit, left, reset = 0, PLENTY, 0
  for _, window in ipairs(rules[1]) do
    local used = used_of(state, window[1])
    local rest = math.max(0, window[2] - sum(used[4]))
    if window[3] > 0 then rest = math.min(rest, at_once(used, window)) end
    if rest < left then
      limit, left, reset = window[2], rest, reset_of(used[4], window[1])
    end
  end
  if rules[2] > 0 then
    local rest = math.max(0, rules[2] - busiest_day(state, life))
    if rest < left then limit, left, reset = rules[2], rest, DAY - now % DAY end
  end
  return limit, left, reset
end

local function take(part, state, room, calls, tokens, ask)
  local rules, moment = part[2], now + ask[5]
  local requests, slots, like, like_tokens = 0, 0, ask[3], ask[4]
  if part[5] then like, like_tokens = 0, 0 end
  if #rules[1] > 0 or rules[2] > 0 then requests = calls + extra(like, room[1] - calls) end
  if rules[3] == 0 then tokens = 0 else tokens = tokens + extra(like_tokens, room[2] - tokens) end
  if rules[4] > 0 then
    slots = part[4] + calls + extra(ask[3], room[3] - calls)
    hold(state, part[3], slots)
  end
  if requests > 0 then
    for _, window in ipairs(rules[1]) do
      local used = used_of(state, window[1])
      if window[3] > 0 then
        used[3] = step_of(window)
        used[2] = now + over(used, window) + requests * used[3]
      end
      add(used[4], window[1], moment, requests)
    end
    if rules[2] > 0 then
      for day = today, math.floor((now + ask[5]) / DAY) do count_day(state, day, requests) end
    end
  end
  if tokens > 0 then add(state[3], MINUTE, moment, tokens) end
  local limit, left, reset = least_left(rules, state, ask[5])
  return {
    requests, tokens, slots, moment, today, limit, left, reset,
    math.max(0, rules[3] - sum(state[3])), reset_of(state[3], MINUTE),
    math.max(0, rules[4] - slots_of(state, part, false) - slots),
  }
end

local function fault(part, state, tokens, life)
  local rules = part[2]
  local worst = { -1, 0, 0, 0, 0, 0 }
  for _, window in ipairs(rules[1]) do
    local used = used_of(state, window[1])
    local wait = wait_for(used[4], window[1], sum(used[4]) + 1 - window[2])
    local burst = 0
    if window[3] > 0 and at_once(used, window) < 1 then
      local step = step_of(window)
      local room_in = math.floor(over(used, window) + step - window[3] * step) + 1
      if room_in > wait then wait, burst = room_in, window[3] end
    end
    if wait > worst[2] then
      worst = { REQUESTS, wait, window[2], reset_of(used[4], window[1]), window[1], burst }
    end
  end
  if rules[2] > 0 and busiest_day(state, life) >= rules[2] then
    local left = DAY - now % DAY
    if left > worst[2] then worst = { DAILY, left, rules[2], left, DAY, 0 } end
  end
  if rules[3] > 0 and sum(state[3]) + tokens > rules[3] then
    local wait = math.max(1, wait_for(state[3], MINUTE, sum(state[3]) + tokens - rules[3]))
    if tokens > rules[3] then wait = MINUTE end
    if wait > worst[2] then worst = { TOKENS, wait, rules[3], reset_of(state[3], MINUTE), MINUTE, 0 } end
  end
  if rules[4] > 0 and rules[4] - slots_of(state, part, false) - slots_of(state, part, true) < 1 then
    if SECOND > worst[2] then worst = { SLOTS, SECOND, rules[4], SECOND, 0, 0 } end
  end
  return worst
end

-- What an ask gets that has to do with a level whose counts are gone: they may have been the limit, and would have passed by then.
local function refusal(gone, ask)
  local place, got = nil, {}
  for n, part in ipairs(ask[1]) do
    if gone[part[1]] and (not place or gone[part[1]] > gone[ask[1][place][1]]) then place = n end
    got[n] = { 0, 0, part[4], now + ask[5], today, 0, 0, 0, 0, 0, 0 }
  end
  if not place then return nil end
  local rules, wait = ask[1][place][2], gone[ask[1][place][1]]
  local limit = rules[1][1] and rules[1][1][2] or math.max(rules[2], rules[3], rules[4])
  return { 0, got, place - 1, REQUESTS, wait, limit, wait }
end

local function answer(states, ask)
  local rooms = {}
  for n, part in ipairs(ask[1]) do rooms[n] = room_of(part, states[part[1]], ask[5]) end
  local granted, tokens = 0, 0
  for _, size in ipairs(ask[2]) do
    local fits = true
    for _, room in ipairs(rooms) do
      fits = fits and granted + 1 <= room[1] and tokens + size <= room[2] and granted + 1 <= room[3]
    end
    if not fits then break end
    granted, tokens = granted + 1, tokens + size
  end
  local got = {}
  for n, part in ipairs(ask[1]) do
    got[n] = take(part, states[part[1]], rooms[n], granted, tokens, ask)
  end
  if granted == #ask[2] then return { granted, got } end
  local worst, place = nil, 0
  for n, part in ipairs(ask[1]) do
    local found = fault(part, states[part[1]], ask[2][granted + 1], ask[5])
    if not worst or found[2] > worst[2] then worst, place = found, n end
  end
  if worst[1] == -1 then worst[1], worst[2] = REQUESTS, 1 end
  return { granted, got, place - 1, unpack(worst) }
end

local function idle_after(state)
  local after = 0
  if #state[4] > 0 then after = SLOT_LIFE end
  for _, used in ipairs(state[1]) do after = math.max(after, used[1] + MAX_LIFE) end
  if #state[3] > 0 then after = math.max(after, MINUTE + MAX_LIFE) end
  if #state[2] > 0 then after = math.max(after, DAY - now % DAY + DAY) end
  return after
end

-- A level's state; or nothing, and for how long, where somebody else has written: nobody knows what had been counted.
local function stored(key)
  local value = redis.pcall('GET', key)
  if not value then return { {}, {}, {}, {} } end
  if value ~= 'forgotten' then
    local is_whole, state = pcall(cmsgpack.unpack, value)
    if is_whole and type(state) == 'table' and #state == 4 then return state end
    redis.call('SET', key, 'forgotten', 'PX', (MINUTE + MAX_LIFE) / 1000)
  end
  return nil, math.max(1, redis.call('PTTL', key)) * 1000
end

local mark = table.remove(KEYS)
if redis.pcall('GET', mark) ~= ARGV[2] then return false end
local batch = cmsgpack.unpack(ARGV[1])
local states, gone = {}, {}
for n, key in ipairs(KEYS) do
  local state, wait = stored(key)
  states[n] = advance(state or { {}, {}, {}, {} })
  gone[n] = wait
end
for _, back in ipairs(batch[1]) do put_back(states[back[1]], back) end
for _, having in ipairs(batch[2]) do hold(states[having[1]], having[2], having[3]) end
local answers = {}
for n, ask in ipairs(batch[3]) do answers[n] = refusal(gone, ask) or answer(states, ask) end
for n, key in ipairs(KEYS) do
  local after = gone[n] or idle_after(states[n])
  if after == 0 then
    redis.call('DEL', key)
  elseif not gone[n] then
    redis.call('SET', key, cmsgpack.pack(states[n]), 'PX', math.ceil(after / 1000))
  end
end
return cmsgpack.pack(answers)
