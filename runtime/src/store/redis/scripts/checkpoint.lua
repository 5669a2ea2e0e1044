#!lua flags=allow-oom
-- Folds changed fields into the state and trims the log, in one step.
-- Allowed without memory: only this frees any.
-- KEYS: state, log, staging. ARGV: epoch, nonce, ticket, upto, upto + 1, number of staged fields,
-- number of fields to set, field, value, ..., fields to delete ...
local own = redis.call('HMGET', KEYS[1], 'epoch', 'nonce', 'head', 'checkpoint', 'ticket')
if own[1] ~= ARGV[1] or own[2] ~= ARGV[2] then
  return {'FENCED', own[1] or '0'}
end
-- A copy that was held up on an old connection must not undo a later checkpoint.
if tonumber(ARGV[3]) <= tonumber(own[5]) then
  return {'GAP', own[3]}
end
local upto = tonumber(ARGV[4])
if upto < tonumber(own[4]) or upto > tonumber(own[3]) then
  return {'GAP', own[3]}
end
redis.call('XLEN', KEYS[2])
local staged = {}
if ARGV[6] ~= '0' then
  if redis.call('HGET', KEYS[3], 'ticket') ~= ARGV[3]
    or redis.call('HLEN', KEYS[3]) ~= tonumber(ARGV[6]) + 1 then
    return {'UNSTAGED'}
  end
  redis.call('HDEL', KEYS[3], 'ticket')
  staged = redis.call('HGETALL', KEYS[3])
end
-- Types are checked: from here nothing can fail.
for i = 1, #staged, 2 do
  redis.call('HSET', KEYS[1], staged[i], staged[i + 1])
end
local first_deleted = 8 + 2 * tonumber(ARGV[7])
for i = 8, first_deleted - 1, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
for i = first_deleted, #ARGV do
  redis.call('HDEL', KEYS[1], ARGV[i])
end
local time = redis.call('TIME')
local now = time[1] .. string.format('%06d', time[2])
redis.call('HSET', KEYS[1], 'checkpoint', ARGV[4], 'checkpoint_at', now, 'ticket', ARGV[3])
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[5])
redis.call('DEL', KEYS[3])
return {'OK'}
