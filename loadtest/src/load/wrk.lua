-- Runs inside wrk. wrk calls done() when the load is over; it hands the figures on as JSON, whole
-- where wrk's own text is rounded and has few of the percentiles.

-- The line that `wrk.rs` looks for among the text that wrk prints itself.
local MARK = "loadtest-json "

-- latency(i) counts through the microseconds from the fastest answer on, for each i anew. All
-- values together take about this many steps; at a nanosecond each, half a billion are half a second.
local MOST_STEPS = 5e8

-- Where that is too many, the distribution is told by so many percentiles.
local PERCENTILES = 500

-- Appends "[value,count]" for every latency that occurred, in microseconds.
local function whole_distribution(latency, values)
  for i = 1, #latency do
    local value, count = latency(i)
    values[#values + 1] = string.format("[%d,%d]", value, count)
  end
end

-- Appends "[value,count]" for evenly spaced percentiles, each with its part of the answers.
local function outline(latency, answers, values)
  local told = 0
  for i = 1, PERCENTILES do
    local upto = math.floor(answers * i / PERCENTILES)
    local value = latency:percentile(100 * i / PERCENTILES)
    values[#values + 1] = string.format("[%d,%d]", value, upto - told)
    told = upto
  end
end

function done(summary, latency, requests)
  local cpu = os.clock() -- of the whole process, before the work below adds to it

  local kinds = {}
  for _, kind in ipairs({ "connect", "read", "write", "status", "timeout" }) do
    kinds[#kinds + 1] = string.format('"%s":%d', kind, summary.errors[kind])
  end

  local values = {}
  if #latency > 0 then
    if #latency * (latency.max - latency.min) / 2 < MOST_STEPS then
      whole_distribution(latency, values)
    else
      outline(latency, summary.requests, values)
    end
  end

  io.write(MARK, string.format(
    '{"duration_us":%d,"requests":%d,"cpu_seconds":%.6f,"errors":{%s},"distribution":[%s]}\n',
    summary.duration, summary.requests, cpu, table.concat(kinds, ","), table.concat(values, ",")))
end
