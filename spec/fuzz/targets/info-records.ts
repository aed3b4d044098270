/** Records of the service `info`: the same ones from every split, none above the bound, and payloads that are refused or the same when they are written again. */
import assert from 'node:assert/strict';
import { Duplex } from 'node:stream';
import { VproxyError } from '../../../lib/errors.js';
import {
  decodeAsk,
  decodeTime,
  decodeTold,
  encodeAsk,
  encodeTime,
  encodeTold,
  readRecords,
} from '../../../lib/info/info-messages.js';
import { RECORD_HEADER_BYTES } from '../../../lib/util/bytes/records.js';
import { everySplit, FuzzInput } from '../fuzz-input.js';
import { assertShowable, outcomeOf } from '../outcome.js';

const MAX_BYTES = 256;

/** Records as `KIND PAYLOAD`, and the code that they end with. */
type Reading = readonly [records: string[], code: string | null];

/** Input: what it is, sizes, bytes. */
export async function fuzzInfoRecords(bytes: Uint8Array): Promise<void> {
  const input = new FuzzInput(bytes);
  const check = input.pick([null, checkAsk, checkTold, checkTime]);
  const sizes = input.sizes();
  const rest = input.rest();
  if (check !== null) {
    outcomeOf(['protocol-error'], () => check(rest));
    return;
  }
  const expected = plainRecords(rest);
  for (const chunks of everySplit(rest, sizes)) assert.deepEqual(await read(chunks), expected);
}

async function read(chunks: readonly Buffer[]): Promise<Reading> {
  const records: string[] = [];
  try {
    for await (const { kind, payload } of readRecords(Duplex.from(chunks), MAX_BYTES)) {
      records.push(`${kind} ${payload.toString('hex')}`);
    }
  } catch (error) {
    if (!(error instanceof VproxyError)) throw error;
    assertShowable(error.message);
    return [records, error.code];
  }
  return [records, null];
}

function plainRecords(bytes: Buffer): Reading {
  const records: string[] = [];
  for (let at = 0; at + RECORD_HEADER_BYTES <= bytes.length; ) {
    const length = bytes.readUInt32BE(at + 1);
    const start = at + RECORD_HEADER_BYTES;
    if (length > MAX_BYTES) return [records, 'protocol-error'];
    if (start + length > bytes.length) break;
    records.push(`${bytes.readUInt8(at)} ${bytes.toString('hex', start, start + length)}`);
    at = start + length;
  }
  return [records, null];
}

const payloadOf = (record: Buffer): Buffer => record.subarray(RECORD_HEADER_BYTES);

function checkAsk(payload: Buffer): void {
  const subject = decodeAsk(payload);
  assert.ok(['machine', 'boot'].includes(subject));
  assert.equal(decodeAsk(payloadOf(encodeAsk(subject))), subject);
}

function checkTold(payload: Buffer): void {
  const value = decodeTold(payload, 'machine');
  const { version, machine } = JSON.parse(payload.toString()) as Record<string, unknown>;
  assert.equal(version, 1);
  assert.deepEqual(value, machine);
  if (value === undefined) return;
  // JSON has a zero with a sign, and writes it without.
  const plain = JSON.parse(JSON.stringify(value)) as object;
  assert.deepEqual(decodeTold(payloadOf(encodeTold('machine', plain)), 'machine'), plain);
}

function checkTime(payload: Buffer): void {
  const timeMs = decodeTime(payload);
  assert.ok(!Number.isNaN(new Date(timeMs).getTime()));
  assert.equal(decodeTime(payloadOf(encodeTime(timeMs))), Math.round(timeMs) + 0);
}
