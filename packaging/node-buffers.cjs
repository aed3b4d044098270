// In place of b4a, by which tar-stream also runs in browsers: vproxy gives it Buffers of Node.
const of =
  (name) =>
  (buffer, ...values) =>
    buffer[name](...values);
const { alloc, byteLength, concat, from, isBuffer } = Buffer;
module.exports = { alloc, byteLength, concat, from, isBuffer };
for (const name of ['copy', 'equals', 'toString', 'write']) module.exports[name] = of(name);
