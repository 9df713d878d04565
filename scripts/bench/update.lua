-- Changes statuses: each thread cycles through its share of the tickets, alternating between open and stalled.
-- Arguments: token, first ticket number, number of tickets, number of changes already made.
local first, share, n
function setup(thread) counter = (counter or 0) + 1; thread:set("id", counter) end
function init(arguments)
  wrk.headers["Authorization"] = "Bearer " .. arguments[1]
  wrk.headers["Content-Type"] = "application/json"
  share = tonumber(arguments[3]) / 2
  first = tonumber(arguments[2]) + (id - 1) * share
  n = tonumber(arguments[4])
end
function request()
  local ticket, round = first + n % share, math.floor(n / share)
  n = n + 1
  local status = round % 2 == 0 and "open" or "stalled"
  return wrk.format("PATCH", string.format("/api/tickets/%d", ticket), nil, '{"status": "' .. status .. '"}')
end
