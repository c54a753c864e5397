-- wrk script: POST one chat request over and over, report as one JSON line.
-- Environment: BODY (a file), AUTH (value of the Authorization header).
local file = io.open(os.getenv("BODY"), "r")
wrk.method, wrk.body = "POST", file:read("*a")
file:close()
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = os.getenv("AUTH")

done = function(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\nRESULT {"requests":%d,"us":%d,"p50":%.1f,"p99":%.1f,"errors":%d,"not_2xx":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.timeout, e.status))
end
