-- Runs inside wrk. wrk calls done() when the load is over; it hands the figures on as JSON, whole
-- where wrk's own text is rounded and has few of the percentiles.

-- The line that `wrk.rs` looks for among the text that wrk prints itself.
local MARK = "loadtest-json "

-- Latencies are a counter for each microsecond, `stats` in wrk's src/stats.h. latency(i) looks for the
-- i-th of them that is not 0 from the first on, for each i anew, which takes seconds where they are many;
-- so they are read where they lie.
local ffi = require("ffi")
ffi.cdef [[ typedef struct { uint64_t count, limit, min, max, data[]; } stats; ]]

-- "[value,count]" for every latency that occurred, in microseconds.
local function distribution(latency)
  local stats, values = ffi.cast("stats **", latency)[0], {}
  assert(stats.min == latency.min and stats.max == latency.max, "wrk has other latencies than thought")
  for value = latency.min, latency.max do
    if stats.data[value] > 0 then
      values[#values + 1] = string.format("[%d,%d]", value, tonumber(stats.data[value]))
    end
  end
  return table.concat(values, ",")
end

function done(summary, latency, requests)
  local cpu = os.clock() -- of the whole process, before the work below adds to it

  local kinds = {}
  for _, kind in ipairs({ "connect", "read", "write", "status", "timeout" }) do
    kinds[#kinds + 1] = string.format('"%s":%d', kind, summary.errors[kind])
  end

  io.write(MARK, string.format(
    '{"duration_us":%d,"requests":%d,"cpu_seconds":%.6f,"errors":{%s},"distribution":[%s]}\n',
    summary.duration, summary.requests, cpu, table.concat(kinds, ","),
    #latency > 0 and distribution(latency) or ""))
end
