/** The FrameReader against a plain reading of the same bytes, in every split. */
import assert from 'node:assert/strict';
import { crc32 } from 'node:zlib';
import { FrameReader } from '../../../lib/codec/frame-reader.js';
import { DataCheck } from '../../../lib/codec/header.js';
import { decodeHello } from '../../../lib/codec/hello.js';
import { VproxyError } from '../../../lib/errors.js';
import { type OracleOptions, type Reading, readFrames } from '../frame-oracle.js';
import { everySplit, FuzzInput } from '../fuzz-input.js';
import { outcomeOf } from '../outcome.js';
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
  const expected = readFrames(frames, options);
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
