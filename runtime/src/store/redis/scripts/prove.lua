#!lua flags=no-writes
-- Says that the fence holds, and what the server's clock reads.
-- KEYS: state. ARGV: epoch, nonce.
local own = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if own[1] ~= ARGV[1] or own[2] ~= ARGV[2] then
  return {'FENCED', own[1] or '0'}
end
local time = redis.call('TIME')
return {'OK', time[1] .. string.format('%06d', time[2])}
