/** The lines of a file: all bytes in order, whole lines of bounded length, in every split. */
import assert from 'node:assert/strict';
import { LineBuffer, MAX_LINE_BYTES } from '../../../lib/forward/endpoints/file-endpoint.js';
import { FuzzInput, splitBySizes } from '../fuzz-input.js';

/** Input: how far from the longest line the first newline is, sizes, bytes after that long line. */
export function fuzzLineBuffer(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const offset = input.byte() - 128;
  const isLong = input.byte() % 4 === 0;
  const sizes = input.sizes();
  const tail = input.rest();
  const head = isLong ? Buffer.alloc(MAX_LINE_BYTES + offset, 'x') : Buffer.alloc(0);
  const stream = Buffer.concat([head, tail]);
  const expected = cut(stream);
  const chunkings = [[stream], [head, ...splitBySizes(tail, sizes)], splitBySizes(stream, [sizes[0] ?? 1, 40_000])];
  for (const chunks of [...chunkings, [head, ...splitBySizes(tail, [1])]]) {
    assert.ok(collect(chunks).equals(expected), 'the lines depend on the split');
  }
}

/** The same by the definition: a newline after every longest piece of a line that is too long. */
function cut(stream: Buffer): Buffer {
  const newline = Buffer.from('\n');
  const lines: Buffer[] = [];
  for (let at = 0; at < stream.length; ) {
    const found = stream.indexOf('\n', at);
    const end = Math.min(found === -1 ? stream.length : found, at + MAX_LINE_BYTES);
    lines.push(stream.subarray(at, end), newline);
    at = end === found ? end + 1 : end;
  }
  return Buffer.concat(lines);
}

function collect(chunks: readonly Buffer[]): Buffer {
  const buffer = new LineBuffer();
  const lines: Buffer[] = [];
  for (const chunk of chunks) {
    const whole = buffer.add(chunk);
    assert.ok(whole === null || whole.at(-1) === 10);
    assert.ok(buffer.heldBytes <= MAX_LINE_BYTES);
    if (whole !== null) lines.push(whole);
  }
  return Buffer.concat([...lines, buffer.end() ?? Buffer.alloc(0)]);
}
