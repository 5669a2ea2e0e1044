#!lua flags=allow-oom
-- Makes a nonce the owner of an element and reads what is kept (continued in page.lua).
-- Allowed without memory, so that an element can recover and trim when the store is full.
-- KEYS: state, log, staging. ARGV: nonce, floor, page bytes.
local own = redis.call('HMGET', KEYS[1], 'epoch', 'nonce')
redis.call('XLEN', KEYS[2])
local epoch = own[1]
if own[2] ~= ARGV[1] then
  epoch = string.format('%.0f', math.max(tonumber(own[1] or '0'), tonumber(ARGV[2])) + 1)
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'nonce', ARGV[1], 'ticket', '0')
  redis.call('HSETNX', KEYS[1], 'head', '0')
  redis.call('HSETNX', KEYS[1], 'checkpoint', '0')
  redis.call('HSETNX', KEYS[1], 'clock', '0')
  redis.call('DEL', KEYS[3])
end
local after = redis.call('HGET', KEYS[1], 'checkpoint')
local limit = tonumber(ARGV[3])
local with_fields = true
