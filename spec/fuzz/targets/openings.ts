/** The opening of a channel, and the TLS records after it: finds the HELLOs among any bytes, in every split. */
import assert from 'node:assert/strict';
import { encodeHello, type Hello, HelloScanner, MAGIC, readHello } from '../../../lib/codec/hello.js';
import { MAX_CONTROL_BYTES } from '../../../lib/codec/limits.js';
import { TlsRecords } from '../../../lib/link/tls-records.js';
import { agree, refusal } from '../../../lib/session/opening/agreement.js';
import { assertShowable, everySplit, FuzzInput, outcomeOf } from '../input.js';
import { repairHellos } from '../repair-checks.js';
import { KNOWN_NONCE } from './frames.js';

/** Limit on what a scanner holds back: an incomplete HELLO. */
const MAX_HELD_BYTES = MAGIC.length + 16 + MAX_CONTROL_BYTES;

interface Found {
  readonly hellos: readonly Hello[];
  /** Skipped bytes. */
  readonly skippedBytes: number;
}

/** Flags (1 repair), sizes, bytes of a channel. */
function readInput(bytes: Uint8Array): { readonly stream: Buffer; readonly splits: readonly Buffer[][] } {
  const input = new FuzzInput(bytes);
  const flags = input.byte();
  const sizes = input.sizes();
  const stream = input.rest();
  if (flags & 1) repairHellos(stream);
  return { stream, splits: everySplit(stream, sizes) };
}

export function fuzzHelloScanner(bytes: Uint8Array): void {
  const { stream, splits } = readInput(bytes);
  const expected = find(stream);
  for (const chunks of splits) assert.deepEqual(scan(chunks), expected);
  for (const hello of expected.hellos) check(hello);
}

/** Every HELLO, by the definition: it follows a magic, and the search goes on after it, else at the magic's second byte. */
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
  // A possible beginning of a magic, from FF on, is not skipped yet.
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
      // Everything before the rest was skipped, or is the HELLO.
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

/** The passed-on bytes, how it ended, and the rest. */
interface Reading {
  readonly records: Buffer;
  readonly end: string | null;
  readonly rest: string | null;
}

/** The extent of a record, which may end after the stream. */
interface Span {
  readonly start: number;
  readonly end: number;
}

/** Where records end, and where the peer starts again, in a channel after its opening. */
export function fuzzTlsRecords(bytes: Uint8Array): void {
  const { stream, splits } = readInput(bytes);
  const expected = readWhole(stream);
  for (const chunks of splits) {
    const { records, ...rest } = read(chunks);
    const loss = lossIn(chunks, expected.spans);
    assert.deepEqual(rest, loss ?? { end: expected.end, rest: expected.rest });
    // What came before the end is passed on, unless bytes were lost.
    assert.ok(expected.records.subarray(0, records.length).equals(records));
    if (loss === null) assert.equal(records.length, expected.records.length);
  }
}

/** How it ends if a chunk within a record looks exactly like a PING in TLS (R-LIVE-4); null if there is none. */
function lossIn(chunks: readonly Buffer[], spans: readonly Span[]): Omit<Reading, 'records'> | null {
  let at = 0;
  for (const [index, chunk] of chunks.entries()) {
    const end = at + chunk.length;
    const isWithin = spans.some((span) => span.start < at && end < span.end);
    const ping = `17030300${(chunk.length - 5).toString(16).padStart(2, '0')}`;
    if (isWithin && chunk.length > 5 && chunk.length <= 5 + 64 && chunk.toString('hex').startsWith(ping))
      return { end: 'desync', rest: Buffer.concat(chunks.slice(index + 1)).toString('hex') };
    at = end;
  }
  return null;
}

/** By definition, in one pass over all bytes. */
function readWhole(stream: Buffer): Reading & { readonly spans: readonly Span[] } {
  const records: Buffer[] = [];
  const spans: Span[] = [];
  const reading = (end: string | null, at: number) => ({
    records: Buffer.concat(records),
    spans,
    end,
    rest: end === null ? null : stream.subarray(at).toString('hex'),
  });
  let at = 0;
  while (at < stream.length) {
    if (stream[at] === 0) return reading('peer-restarted', at);
    if (stream[at] === 0xff) {
      const head = stream.subarray(at, at + MAGIC.length);
      if (!MAGIC.subarray(0, head.length).equals(head)) return reading('desync', at);
      const found = readHello(stream, at + MAGIC.length);
      if (found === 'incomplete') return reading(null, at);
      if (found === 'invalid') return reading('desync', at);
      if (records.length > 0 || found.hello.nonce !== KNOWN_NONCE) return reading('peer-restarted', at);
      at = found.end;
      continue;
    }
    const header = stream.subarray(at, at + 5);
    if (header.length < 5) return reading(null, at);
    const length = header.readUInt16BE(3);
    const isRecord = /^1[4-7]03..(?!0000)/.test(header.toString('hex')) && length <= 16_384 + 2048;
    if (!isRecord) return reading('desync', at);
    records.push(stream.subarray(at, at + 5 + length));
    spans.push({ start: at, end: at + 5 + length });
    at += 5 + length;
  }
  return reading(null, at);
}

function read(chunks: readonly Buffer[]): Reading {
  const reader = new TlsRecords(KNOWN_NONCE);
  const records: Buffer[] = [];
  for (const [index, chunk] of chunks.entries()) {
    for (let left = chunk; left.length > 0; left = reader.takeUnread()) {
      const outcome = outcomeOf(['peer-restarted', 'desync'], () => reader.push(left));
      if ('code' in outcome) {
        const rest = Buffer.concat([reader.takeRest(), ...chunks.slice(index + 1)]).toString('hex');
        return { records: Buffer.concat(records), end: outcome.code, rest };
      }
      records.push(...outcome.value.map((record) => Buffer.from(record)));
    }
  }
  return { records: Buffer.concat(records), end: null, rest: null };
}
