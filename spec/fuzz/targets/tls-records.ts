/**
 * The bytes between two sides of TLS in a channel: where records end, and where the peer starts again, in every split.
 */
import assert from 'node:assert/strict';
import { MAGIC, readHello } from '../../../lib/codec/hello.js';
import { TlsRecords } from '../../../lib/link/tls-records.js';
import { everySplit, FuzzInput } from '../fuzz-input.js';
import { outcomeOf } from '../outcome.js';
import { repairHellos } from '../repair-checks.js';
import { KNOWN_NONCE } from './frame-reader.js';

/** What was handed on, how it ended, and what was left then. */
interface Reading {
  readonly records: Buffer;
  readonly end: string | null;
  readonly rest: string | null;
}

/** Where a record is, or would be: it may end behind the stream. */
interface Span {
  readonly start: number;
  readonly end: number;
}

/** Input: flags (1 repair), sizes, bytes of a channel after its opening. */
export function fuzzTlsRecords(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const flags = input.byte();
  const sizes = input.sizes();
  const stream = input.rest();
  if (flags & 1) repairHellos(stream);
  const expected = readWhole(stream);
  for (const chunks of everySplit(stream, sizes)) {
    const { records, ...rest } = read(chunks);
    const loss = lossIn(chunks, expected.spans);
    assert.deepEqual(rest, loss ?? { end: expected.end, rest: expected.rest });
    // What comes in one piece with an end is not handed on any more.
    assert.ok(expected.records.subarray(0, records.length).equals(records));
    if (rest.end === null) assert.equal(records.length, expected.records.length);
  }
}

/** How it ends where a chunk within a record is just what a PING in TLS looks like (R-LIVE-4); null where there is none. */
function lossIn(chunks: readonly Buffer[], spans: readonly Span[]): Omit<Reading, 'records'> | null {
  let at = 0;
  for (const [index, chunk] of chunks.entries()) {
    const end = at + chunk.length;
    const isWithin = spans.some((span) => span.start < at && end < span.end);
    const isShort = chunk.length > 5 && chunk.length <= 5 + 64;
    if (
      isWithin &&
      isShort &&
      chunk.toString('hex').startsWith(`17030300${(chunk.length - 5).toString(16).padStart(2, '0')}`)
    )
      return { end: 'desync', rest: Buffer.concat(chunks.slice(index + 1)).toString('hex') };
    at = end;
  }
  return null;
}

/** By the definition, in one pass over all of it. */
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
    const outcome = outcomeOf(['peer-restarted', 'desync'], () => reader.push(chunk));
    if ('value' in outcome) {
      records.push(...outcome.value.map((record) => Buffer.from(record)));
      continue;
    }
    const rest = Buffer.concat([reader.takeRest(), ...chunks.slice(index + 1)]).toString('hex');
    return { records: Buffer.concat(records), end: outcome.code, rest };
  }
  return { records: Buffer.concat(records), end: null, rest: null };
}
