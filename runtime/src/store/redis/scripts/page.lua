-- One page of what is kept: epoch, head, checkpoint, clock, fields, batches after `after`.
local known = redis.call('HMGET', KEYS[1], 'head', 'checkpoint', 'clock')
local time = redis.call('TIME')
local now = time[1] .. string.format('%06d', time[2])
if tonumber(now) < tonumber(known[3]) then
  now = known[3]
end
local fields = {}
if with_fields then
  fields = redis.call('HGETALL', KEYS[1])
end
local batches, size, from, count = {}, 0, '(' .. after .. '-0', 8
while size < limit do
  local page = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', count)
  for _, entry in ipairs(page) do
    batches[#batches + 1] = entry
    size = size + #entry[2][6]
    from = '(' .. entry[1]
    if size >= limit then
      break
    end
  end
  if #page < count then
    break
  end
  -- As many as fit by the size of those so far: small batches come by the hundred, large ones do not
  -- overshoot.
  count = math.max(8, math.min(512, math.ceil((limit - size) * #batches / math.max(size, 1))))
end
return {'OK', epoch, known[1], known[2], now, fields, batches}
