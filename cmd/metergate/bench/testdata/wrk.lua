-- Sends the requests of the file REQUESTS in turn; between two of them stands a NUL.
local requests, sent = {}, 0
function init()
  for request in io.open(os.getenv('REQUESTS')):read('*a'):gmatch('%Z+') do
    requests[#requests + 1] = request
  end
end
function request()
  sent = sent % #requests + 1
  return requests[sent]
end
