/** Reads frames from complete input, as simply as docs/protocol.md describes it: the reference for FrameReader. */
import { crc32 } from 'node:zlib';
import { MAGIC } from '../../lib/codec/hello.js';

/** The result of reading. */
export interface Reading {
  /** What the handler was called with. */
  readonly calls: readonly string[];
  /** The code that ended it, `stopped`, or null at the end of the bytes. */
  readonly end: string | null;
  /** The bytes for the next opening, where it ended before the bytes did. */
  readonly rest: string | null;
  /** Whether a frame is not complete, the number of the frame at hand, and what came of the session's frames that are whole; where it did not end. */
  readonly position: readonly [isMidFrame: boolean, sequence: number, wholeBytes: number] | null;
}

/** How to read. */
export interface OracleOptions {
  /** The tag of the direction in `frame`; null in `full`. */
  readonly tag: number | null;
  readonly maxDataBytes: number;
  /** The verdict on a HELLO's payload: whether it is one, and whether it is the current peer's. */
  readonly judgeHello: (payload: Buffer) => 'invalid' | 'known' | 'other';
  /** What the handler does when it gets a frame. */
  readonly react: (type: number) => 'stop' | 'throw' | 'go on';
}

const [HELLO, DATA, CREDIT, LAST] = [1, 7, 8, 17];
const OF_STREAM = new Set([4, 5, 6, 7, 9, 10, 11]);

/** The reading of `bytes`. */
export function readFrames(bytes: Buffer, options: OracleOptions): Reading {
  const { tag, maxDataBytes } = options;
  const calls: string[] = [];
  let sequence = 1;
  let at = 0;
  let helloBytes = 0;
  const ended = (end: string, from: number): Reading => {
    if (end !== 'stopped') calls.push(end);
    return { calls, end, rest: bytes.toString('hex', from), position: null };
  };
  const open = (number: number): Reading => ({
    calls,
    end: null,
    rest: null,
    position: [true, number, at - helloBytes],
  });
  while (at < bytes.length) {
    if (bytes[at] === 0) return ended('peer-restarted', at);
    if (bytes.length < at + 16) return open(sequence);
    if (bytes[at] === 0xff) {
      if (!bytes.subarray(at, at + 16).equals(MAGIC)) return ended('desync', at);
      const header = at + 16;
      if (bytes.length < header + 16) return open(sequence);
      const length = bytes.readUInt32BE(header + 8);
      const isHello = bytes[header] === HELLO && bytes[header + 1] === 0 && bytes.readUInt32BE(header + 4) === 0;
      if (!isHello || !isChecked(bytes, header, 0) || length === 0 || length > 4096) return ended('desync', header);
      const end = header + 16 + length;
      if (bytes.length < end) return open(sequence);
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
    if (bytes.length < end) return open(sequence);
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
  return { calls, end: null, rest: null, position: [false, sequence, at - helloBytes] };
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
