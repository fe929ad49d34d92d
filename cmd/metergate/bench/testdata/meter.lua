-- Meters in nginx, for nginx-lua.conf. nginx may not ask Redis while it sends a response: neither
-- header_filter_by_lua nor body_filter_by_lua can use sockets. So the request to the API is a subrequest,
-- whose whole response nginx keeps in memory until the request is settled.
local redis = require 'nginx.redis'
local base64 = require 'ngx.base64'

-- The user whom the token names. Nothing verifies the token: Debian has no JWT module for nginx.
local function user()
  local encoded = (ngx.var.http_authorization or ''):match('^Bearer [^.]*%.([^.]*)')
  local claims = encoded and base64.decode_base64url(encoded)
  return claims and claims:match('"sub":"([^"]*)"')
end

-- Runs a script on a connection of the pool.
local function run(...)
  local store = redis:new()
  store:set_timeout(1000)
  assert(store:connect(ngx.var.redis_host, tonumber(ngx.var.redis_port)))
  local reply = assert(store:evalsha(...))
  store:set_keepalive(60000, 1024)
  return reply
end

local name = user()
if not name then
  return ngx.exit(401)
end
local key = 'pair:' .. name
if run(ngx.var.reserve, 1, key, ngx.var.limit, 31 * 24 * 3600) < 0 then
  return ngx.exit(429)
end
ngx.req.read_body()
local res = ngx.location.capture('/upstream' .. ngx.var.uri, {
  method = ngx['HTTP_' .. ngx.req.get_method()], args = ngx.var.args, always_forward_body = true,
})
local succeeded = res.status >= 200 and res.status < 300
run(ngx.var.settle, 1, key, succeeded and 1 or 0)
ngx.status = res.status
for header, value in pairs(res.header) do
  ngx.header[header] = value
end
ngx.print(res.body)
