#!lua flags=no-writes
-- One page of dead letters, counted from the first ever buried, so that letters which make room
-- between two pages do not shift the rest. KEYS: state, letters. ARGV: next letter, page bytes.
local buried = tonumber(redis.call('HGET', KEYS[1], 'buried') or '0')
local first = buried - redis.call('LLEN', KEYS[2])
local next = math.max(tonumber(ARGV[1]), first)
local limit, size, letters = tonumber(ARGV[2]), 0, {}
while next < buried and size < limit do
  local letter = redis.call('LINDEX', KEYS[2], next - first)
  letters[#letters + 1] = letter
  size = size + #letter
  next = next + 1
end
return {'OK', string.format('%.0f', next), string.format('%.0f', buried), letters}
