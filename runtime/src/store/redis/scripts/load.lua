#!lua flags=no-writes
-- Reads what is kept of an element, for its owner (continued in page.lua).
-- KEYS: state, log. ARGV: epoch, nonce, page bytes, the index after which to read or nothing for
-- the first page, which has the fields too.
local own = redis.call('HMGET', KEYS[1], 'epoch', 'nonce', 'checkpoint')
if own[1] ~= ARGV[1] or own[2] ~= ARGV[2] then
  return {'FENCED', own[1] or '0'}
end
local epoch = own[1]
local limit = tonumber(ARGV[3])
local with_fields = ARGV[4] == ''
local after = with_fields and own[3] or ARGV[4]
