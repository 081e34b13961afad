-- Asks for several paths, each as often as its weight says. It stands behind two lines that set MIX, a
-- list of { weight, path }, and SEED. Only a mix brings it in: wrk calls request() for each request then,
-- where it otherwise sends the same bytes again and again.

local threads = 0

-- Once for each thread, before it runs, in the state that is not the thread's.
function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local requests, upto, sum = {}, {}, 0

-- In each thread's own state. Requests are made beforehand: to make one takes longer than to send it.
function init()
  math.randomseed(SEED * 1024 + number)
  for i, share in ipairs(MIX) do
    sum = sum + share[1]
    upto[i] = sum
    requests[i] = wrk.format("GET", share[2])
  end
end

function request()
  local drawn = math.random() * sum
  for i = 1, #upto - 1 do
    if drawn < upto[i] then return requests[i] end
  end
  return requests[#requests]
end
