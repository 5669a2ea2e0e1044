#!lua
-- Adds a dead letter; the oldest make room.
-- KEYS: state, letters. ARGV: epoch, nonce, most letters kept, letter.
local own = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if own[1] ~= ARGV[1] or own[2] ~= ARGV[2] then
  return {'FENCED', own[1] or '0'}
end
redis.call('RPUSH', KEYS[2], ARGV[4])
redis.call('LTRIM', KEYS[2], '-' .. ARGV[3], '-1')
redis.call('HINCRBY', KEYS[1], 'buried', 1)
return {'OK'}
