#!lua flags=allow-oom
-- Puts aside part of a checkpoint that is too large for one step.
-- KEYS: state, staging. ARGV: epoch, nonce, ticket, '1' for the first part, field, value, ...
local own = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
if own[1] ~= ARGV[1] or own[2] ~= ARGV[2] then
  return {'FENCED', own[1] or '0'}
end
if ARGV[4] == '1' then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], 'ticket', ARGV[3])
elseif redis.call('HGET', KEYS[2], 'ticket') ~= ARGV[3] then
  return {'UNSTAGED'}
end
for i = 5, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
end
return {'OK'}
