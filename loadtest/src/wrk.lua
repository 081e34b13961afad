-- Runs inside wrk. wrk calls done() when the load is over; it hands the figures on as JSON, whole and
-- exact, where wrk's own text is rounded and has two of the percentiles only.

-- The line that `wrk.rs` looks for among the text that wrk prints itself.
local MARK = "loadtest-json "

-- latency(i) counts through the microseconds from the fastest answer on, for each i anew. All
-- values together take about this many steps; at a nanosecond each, 3 billion are 3 seconds.
local MOST_STEPS = 3e9

-- Appends "[value,count]" for every latency that occurred, in microseconds.
local function whole_distribution(latency, values)
  for i = 1, #latency do
    local value, count = latency(i)
    values[#values + 1] = string.format("[%d,%d]", value, count)
  end
end

function done(summary, latency, requests)
  local cpu = os.clock() -- of the whole process, before the work below adds to it

  local kinds = {}
  for _, kind in ipairs({ "connect", "read", "write", "status", "timeout" }) do
    kinds[#kinds + 1] = string.format('"%s":%d', kind, summary.errors[kind])
  end

  local answered = #latency > 0
  local percentiles = {}
  for name, p in pairs({ p50 = 50, p75 = 75, p90 = 90, p99 = 99, p99_9 = 99.9 }) do
    local value = answered and latency:percentile(p) or 0
    percentiles[#percentiles + 1] = string.format('"%s":%d', name, value)
  end

  -- The distribution is left out (null) rather than cut, where it would take minutes to read.
  local distribution = "null"
  if answered and #latency * (latency.max - latency.min) / 2 < MOST_STEPS then
    local values = {}
    whole_distribution(latency, values)
    distribution = "[" .. table.concat(values, ",") .. "]"
  end

  io.write(MARK, string.format(
    '{"duration_us":%d,"requests":%d,"cpu_seconds":%.6f,"errors":{%s},' ..
    '"latency_us":{"mean":%.3f,"stdev":%.3f,%s,"max":%d},"distribution":%s}\n',
    summary.duration, summary.requests, cpu, table.concat(kinds, ","),
    answered and latency.mean or 0, answered and latency.stdev or 0,
    table.concat(percentiles, ","), answered and latency.max or 0, distribution))
end
