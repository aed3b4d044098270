/**
 * `node dist/spec/conformance/faulty.js FAULT COMMAND...` runs a program with its channel on standard input and output, and damages
 * one thing in what it writes: all frames remain in order, and right in every other way. For sessions with integrity `full`.
 */
import { spawn } from 'node:child_process';
import { readFrame, type SeenFrame } from '../../conformance/frame-log.js';
import { creditPayload } from '../../conformance/frame-maker.js';
import { encodeFrame, FRAME_TYPE } from '../../lib/codec/header.js';

/** The frame that is written in the place of one; null: nothing. */
const FAULTS: Readonly<Record<string, (frame: SeenFrame, encode: (payload: Buffer) => Buffer) => Buffer | null>> = {
  'broken-frame': ({ type, payload }, encode) => {
    const bytes = encode(payload);
    if (type === FRAME_TYPE.ACCEPT) bytes[3] = (bytes[3] ?? 0) ^ 1;
    return bytes;
  },
  'wrong-credit': ({ type, streamId, payload }, encode) =>
    encode(type === FRAME_TYPE.CREDIT && streamId > 0 ? creditPayload(payload.readBigUInt64BE() + 2n ** 22n) : payload),
  'lost-fin': ({ type, payload }, encode) => (type === FRAME_TYPE.FIN ? null : encode(payload)),
};

const [name = '', file = '', ...words] = process.argv.slice(2);
const fault = FAULTS[name];
if (fault === undefined) throw new Error(`unknown fault "${name}"`);

const child = spawn(file, words, { stdio: ['pipe', 'pipe', 'inherit'] });
process.stdin.pipe(child.stdin);
child.stdin.on('error', () => undefined);
child.on('exit', (code) => process.exit(code ?? 1));
process.on('SIGTERM', () => child.kill('SIGTERM'));

let bytes = Buffer.alloc(0);
let sequences = { read: 1, written: 1 };
child.stdout.on('data', (chunk: Buffer) => {
  bytes = Buffer.concat([bytes, chunk]);
  for (let size = pass(); size > 0; size = pass()) bytes = bytes.subarray(size);
});

/** Passes on what is whole at the start of the bytes; returns its size. */
function pass(): number {
  const first = bytes[0];
  if (first === undefined || (first === 0xff && bytes.length < 32)) return 0;
  if (first === 0x00 || first === 0xff) {
    const end = first === 0x00 ? bytes.findIndex((byte) => byte !== 0) : 32 + bytes.readUInt32BE(24);
    const size = end === -1 ? bytes.length : end;
    if (size > bytes.length) return 0;
    sequences = { read: 1, written: 1 };
    process.stdout.write(bytes.subarray(0, size));
    return size;
  }
  const frame = readFrame(bytes, sequences.read, null);
  if (frame === null) return 0;
  sequences.read += 1;
  const written =
    fault?.(frame, (payload) => encodeFrame(frame.type, frame.streamId, payload, sequences.written)) ?? null;
  if (written !== null) sequences.written += 1;
  process.stdout.write(written ?? Buffer.alloc(0));
  return frame.end;
}
