#!lua
-- Adds one batch to an element's log: constant work, whatever the batch holds.
-- KEYS: state, log. ARGV: epoch, nonce, expected head, first, last, bytes.
local own = redis.call('HMGET', KEYS[1], 'epoch', 'nonce', 'head', 'clock')
if own[1] ~= ARGV[1] or own[2] ~= ARGV[2] then
  return {'FENCED', own[1] or '0'}
end
local id = ARGV[5] .. '-0'
if own[3] ~= ARGV[3] then
  local taken = redis.call('XRANGE', KEYS[2], id, id)[1]
  if taken and taken[2][2] == ARGV[4] then
    return {'DUP', taken[2][4]}
  end
  return {'GAP', own[3]}
end
-- The log's clock never goes back, even if the server's does.
local time = redis.call('TIME')
local now = time[1] .. string.format('%06d', time[2])
if tonumber(now) < tonumber(own[4]) then
  now = own[4]
end
-- XADD checks type and id before it writes; after it nothing can fail.
redis.call('XADD', KEYS[2], id, 'first', ARGV[4], 'time', now, 'bytes', ARGV[6])
redis.call('HSET', KEYS[1], 'head', ARGV[5], 'clock', now)
return {'OK', now}
