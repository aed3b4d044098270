/** The FrameReader against a plain reading of the same bytes, as docs/protocol.md describes it, in every split. */
import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import { FrameReader } from '../../../lib/codec/frame-reader.js';
import { DataCheck } from '../../../lib/codec/header.js';
import { decodeHello, MAGIC } from '../../../lib/codec/hello.js';
import { VproxyError } from '../../../lib/errors.js';
import { everySplit, FuzzInput, outcomeOf } from '../input.js';
import { repairFrames } from '../repair-checks.js';

/** The nonce of the peer whose HELLO means nothing in the middle of a session. */
export const KNOWN_NONCE = 'a'.repeat(32);

/** The nonce of the side that reads. */
const READER_NONCE = 'd'.repeat(32);

/** The tag of the direction: the CRC-32 of both nonces. */
export const TAG = crc32(KNOWN_NONCE + READER_NONCE);

const [ACCEPT, DATA, GOAWAY] = [5, 7, 14];

/** Input: flags (1 `full`, 2 the handler reacts, 4 large DATA, 8 and 16 repair), sizes, frames. */
export function fuzzFrameReader(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const flags = input.byte();
  const sizes = input.sizes();
  const frames = input.rest();
  const tag = flags & 1 ? null : TAG;
  if (flags & 8) repairFrames(frames, (flags & 16) > 0, tag);
  const options: OracleOptions = {
    tag,
    maxDataBytes: flags & 4 ? 131_072 : 4096,
    judgeHello(payload) {
      const outcome = outcomeOf(['protocol-error'], () => decodeHello(payload).nonce);
      if ('code' in outcome) return 'invalid';
      return outcome.value === KNOWN_NONCE ? 'known' : 'other';
    },
    react: (type) => (flags & 2 && type === ACCEPT ? 'throw' : flags & 2 && type === GOAWAY ? 'stop' : 'go on'),
  };
  const expected = readPlainly(frames, options);
  for (const chunks of everySplit(frames, sizes)) assert.deepEqual(read(chunks, options), expected);
}

/** The result of a reader for these chunks. */
function read(chunks: readonly Buffer[], { tag, maxDataBytes, react }: OracleOptions): Reading {
  const calls: string[] = [];
  const state = { isStopped: false };
  const reader = new FrameReader({
    handler: {
      handleFrame(type, id, payload) {
        calls.push(`${type} ${id} ${payload.toString('hex')}`);
        const reaction = react(type);
        if (reaction === 'throw') throw new VproxyError('protocol-error', 'the handler found something wrong');
        if (reaction === 'stop') reader.stop();
        state.isStopped ||= reaction === 'stop';
      },
      handleData(id, bytes) {
        calls.push(`${DATA} ${id} ${bytes.toString('hex')}`);
        return false;
      },
      handleHello: ({ nonce }) => nonce === KNOWN_NONCE,
    },
    check: new DataCheck(tag === null ? 'full' : 'frame', KNOWN_NONCE, READER_NONCE),
    maxDataBytes,
  });
  for (const [index, chunk] of chunks.entries()) {
    const outcome = outcomeOf(['peer-restarted', 'desync', 'protocol-error'], () => reader.push(chunk));
    const end = 'code' in outcome ? outcome.code : state.isStopped ? 'stopped' : null;
    if (end === null) continue;
    if (end !== 'stopped') calls.push(end);
    const rest = Buffer.concat([reader.takeRest(), ...chunks.slice(index + 1)]).toString('hex');
    return { calls, end, rest, position: null };
  }
  return { calls, end: null, rest: null, position: [reader.isMidFrame, reader.sequence, reader.wholeBytes] };
}

interface Reading {
  /** What the handler was called with. */
  readonly calls: readonly string[];
  /** The code that ended it, `stopped`, or null at the end of the bytes. */
  readonly end: string | null;
  /** The bytes for the next opening, if it ended before the bytes did. */
  readonly rest: string | null;
  /** If it did not end: whether a frame is incomplete, the current frame's number, and the result of the complete ones. */
  readonly position: readonly [isMidFrame: boolean, sequence: number, wholeBytes: number] | null;
}

interface OracleOptions {
  /** The tag of the direction in `frame`; null in `full`. */
  readonly tag: number | null;
  readonly maxDataBytes: number;
  /** The verdict on a HELLO's payload: whether it is one, and whether it is the current peer's. */
  readonly judgeHello: (payload: Buffer) => 'invalid' | 'known' | 'other';
  /** What the handler does when it gets a frame. */
  readonly react: (type: number) => 'stop' | 'throw' | 'go on';
}

const [HELLO, CREDIT, LAST] = [1, 8, 17];
const OF_STREAM = new Set([4, 5, 6, 7, 9, 10, 11]);

/** Reads frames from complete input. */
function readPlainly(bytes: Buffer, options: OracleOptions): Reading {
  const { tag, maxDataBytes } = options;
  const calls: string[] = [];
  let sequence = 1;
  let at = 0;
  let helloBytes = 0;
  const ended = (end: string, from: number): Reading => {
    if (end !== 'stopped') calls.push(end);
    return { calls, end, rest: bytes.toString('hex', from), position: null };
  };
  const unended = (isMidFrame: boolean): Reading => {
    return { calls, end: null, rest: null, position: [isMidFrame, sequence, at - helloBytes] };
  };
  while (at < bytes.length) {
    if (bytes[at] === 0) return ended('peer-restarted', at);
    if (bytes.length < at + 16) return unended(true);
    if (bytes[at] === 0xff) {
      if (!bytes.subarray(at, at + 16).equals(MAGIC)) return ended('desync', at);
      const header = at + 16;
      if (bytes.length < header + 16) return unended(true);
      const length = bytes.readUInt32BE(header + 8);
      const isHello = bytes[header] === HELLO && bytes[header + 1] === 0 && bytes.readUInt32BE(header + 4) === 0;
      if (!isHello || !isChecked(bytes, header, 0) || length === 0 || length > 4096) return ended('desync', header);
      const end = header + 16 + length;
      if (bytes.length < end) return unended(true);
      const payload = bytes.subarray(header + 16, end);
      const verdict = crc32(payload) === bytes.readUInt32BE(header + 12) ? options.judgeHello(payload) : 'invalid';
      if (verdict === 'invalid') return ended('desync', end);
      if (verdict === 'other') return ended('peer-restarted', at);
      helloBytes += end - at;
      at = end;
      continue;
    }
    if (!isChecked(bytes, at, sequence)) return ended('desync', at);
    const type = bytes[at] as number;
    const [id, length, crc] = [bytes.readUInt32BE(at + 4), bytes.readUInt32BE(at + 8), bytes.readUInt32BE(at + 12)];
    if (bytes[at + 1] !== 0 || breaksRule(type, id, length, maxDataBytes)) return ended('protocol-error', at);
    const isTrailed = type === DATA && tag !== null;
    const payloadEnd = at + 16 + length;
    const end = payloadEnd + (isTrailed ? 4 : 0);
    if (bytes.length < end) return unended(true);
    const payload = bytes.subarray(at + 16, payloadEnd);
    const trailer = isTrailed ? bytes.readUInt32BE(payloadEnd) : 0;
    const isRight = isTrailed ? trailer === (tag ^ sequence) >>> 0 : crc32(payload) === crc;
    sequence = sequence === 0xffff_ffff ? 1 : sequence + 1;
    if (type < 0x80) {
      if (!isRight) {
        const isFlush = isTrailed ? trailer === 0 : length > 0 && payload.subarray(-16).every((byte) => byte === 0);
        // A header alone is where the frame that ended the session begins; a payload has been read.
        return ended(isFlush ? 'peer-restarted' : 'desync', length === 0 ? at : end);
      }
      calls.push(`${type} ${id} ${payload.toString('hex')}`);
      const reaction = options.react(type);
      if (reaction === 'stop') return ended('stopped', end);
      if (reaction === 'throw') return ended('protocol-error', length === 0 ? at : end);
    }
    at = end;
  }
  return unended(false);
}

function breaksRule(type: number, id: number, length: number, maxDataBytes: number): boolean {
  if (type >= 0x80) return length > maxDataBytes;
  if (type === DATA) return length > maxDataBytes || length === 0 || id === 0;
  if (type === HELLO || type > LAST || length > 4096) return true;
  return type !== CREDIT && OF_STREAM.has(type) !== id > 0;
}

/** CRC-16/CCITT-FALSE, bit by bit, over the sequence number and the header without its check. */
function isChecked(bytes: Buffer, at: number, sequence: number): boolean {
  const number = Buffer.alloc(4);
  number.writeUInt32BE(sequence);
  let crc = 0xffff;
  for (const byte of [...number, ...bytes.subarray(at, at + 2), ...bytes.subarray(at + 4, at + 16)]) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
  }
  return crc === bytes.readUInt16BE(at + 2);
}
