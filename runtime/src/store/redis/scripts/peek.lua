#!lua flags=no-writes
-- Reads what is kept of an element, for anybody (continued in page.lua).
-- KEYS: state, log. ARGV: page bytes, the index after which to read or nothing for the first page,
-- which has the fields too.
local own = redis.call('HMGET', KEYS[1], 'epoch', 'checkpoint')
if not own[1] then
  return {'FENCED', '0'}
end
local epoch = own[1]
local limit = tonumber(ARGV[1])
local with_fields = ARGV[2] == ''
local after = with_fields and own[2] or ARGV[2]
