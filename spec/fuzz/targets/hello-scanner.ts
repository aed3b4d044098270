/** The scanner of the opening: which HELLOs it finds among any bytes, in every split. */

import assert from 'node:assert/strict';
import { encodeHello, type Hello, HelloScanner, MAGIC, readHello } from '../../../lib/codec/hello.js';
import { MAX_CONTROL_BYTES } from '../../../lib/codec/limits.js';
import { agree, refusal } from '../../../lib/session/opening/agreement.js';
import { everySplit, FuzzInput } from '../fuzz-input.js';
import { assertShowable, outcomeOf } from '../outcome.js';
import { repairHellos } from '../repair-checks.js';

/** What a scanner holds back at most: an unfinished HELLO. */
const MAX_HELD_BYTES = MAGIC.length + 16 + MAX_CONTROL_BYTES;

interface Found {
  readonly hellos: readonly Hello[];
  /** Bytes that it passed over. */
  readonly skippedBytes: number;
}

/** Input: flags (1 repair), sizes, bytes of a channel. */
export function fuzzHelloScanner(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const flags = input.byte();
  const sizes = input.sizes();
  const stream = input.rest();
  if (flags & 1) repairHellos(stream);
  const expected = find(stream);
  for (const chunks of everySplit(stream, sizes)) assert.deepEqual(scan(chunks), expected);
  for (const hello of expected.hellos) check(hello);
}

/**
 * Every HELLO, by the definition: it follows a magic, and the search goes on after it, else at the magic's second byte.
 */
function find(stream: Buffer): Found {
  const hellos: Hello[] = [];
  let takenBytes = 0;
  let from = 0;
  for (let at = stream.indexOf(MAGIC); at !== -1; at = stream.indexOf(MAGIC, from)) {
    const found = readHello(stream, at + MAGIC.length);
    if (found === 'incomplete') return { hellos, skippedBytes: at - takenBytes };
    from = found === 'invalid' ? at + 1 : found.end;
    if (found === 'invalid') continue;
    hellos.push(found.hello);
    takenBytes += found.end - at;
  }
  // What may be the beginning of a magic is not passed over yet: it begins with FF.
  const end = stream.indexOf(0xff, Math.max(from, stream.length - MAGIC.length + 1));
  return { hellos, skippedBytes: (end === -1 ? stream.length : end) - takenBytes };
}

function scan(chunks: readonly Buffer[]): Found {
  const scanner = new HelloScanner();
  const hellos: Hello[] = [];
  let givenBytes = 0;
  let takenBytes = 0;
  for (const chunk of chunks) {
    let left = chunk;
    for (let found = scanner.scan(left); found !== null; found = scanner.scan(left)) {
      hellos.push(found.hello);
      // All up to the rest was passed over, or is the HELLO.
      takenBytes = givenBytes + chunk.length - found.rest.length - scanner.skippedBytes;
      left = found.rest;
    }
    givenBytes += chunk.length;
    const heldBytes = givenBytes - takenBytes - scanner.skippedBytes;
    assert.ok(heldBytes >= 0 && heldBytes <= MAX_HELD_BYTES, `it holds ${heldBytes} bytes`);
  }
  return { hellos, skippedBytes: scanner.skippedBytes };
}

/** A valid HELLO can be answered, and means the same when it is written again. */
function check(hello: Hello): void {
  const refused = refusal(agree({ ...hello, auth: null, tls: false }, hello));
  if (refused !== null) assertShowable(refused.message);
  // A peer that sent no instance has an empty one, which cannot be written.
  const instance = hello.instance === '' ? 'd'.repeat(32) : hello.instance;
  const again = outcomeOf(['internal'], () => encodeHello({ ...hello, instance }));
  if ('code' in again) return;
  const found = readHello(again.value, MAGIC.length);
  assert.ok(typeof found === 'object');
  assert.ok(encodeHello(found.hello).equals(again.value));
}
