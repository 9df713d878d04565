-- Creates tickets. The requests differ only by a number in the subject. Arguments: token, body with "again" in the subject.
local token, body, n
function setup(thread) counter = (counter or 0) + 1; thread:set("id", counter) end
function init(arguments)
  token, body, n = arguments[1], arguments[2], 0
  wrk.headers["Authorization"] = "Bearer " .. token
  wrk.headers["Content-Type"] = "application/json"
end
function request()
  n = n + 1
  return wrk.format("POST", "/api/tickets", nil, (body:gsub("again", "again " .. id .. "-" .. n, 1)))
end
