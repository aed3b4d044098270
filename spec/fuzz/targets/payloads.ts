/** The payloads of control frames: decoded or a protocol error, and the same when they are encoded again. */
import assert from 'node:assert/strict';
import { FRAME_TYPE } from '../../../lib/codec/header.js';
import { decodeHello } from '../../../lib/codec/hello.js';
import {
  LIMIT_RANGES,
  type Limits,
  MAX_CONTROL_BYTES,
  MAX_MESSAGE_BYTES,
  SERVICE_NAME,
} from '../../../lib/codec/limits.js';
import {
  decodeGoaway,
  decodeOpen,
  decodeReasonPayload,
  decodeServices,
  decodeTotal,
  encodeGoaway,
  encodeOpen,
  encodeReason,
  encodeServices,
  writeTotal,
} from '../../../lib/codec/payloads.js';
import { MAX_SERVICES, PeerServices } from '../../../lib/session/services.js';
import { FuzzInput } from '../fuzz-input.js';
import { assertShowable, outcomeOf } from '../outcome.js';

// An escaped character takes up to ten.
const MAX_SHOWN_MESSAGE = 10 * MAX_MESSAGE_BYTES + 1;

/** Input: which payload, then its bytes. */
export function fuzzPayloads(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const check = input.pick([checkOpen, checkReason, checkServices, checkGoaway, checkCredit, checkLists, checkHello]);
  outcomeOf(check === checkLists ? ['protocol-error', 'flood'] : ['protocol-error'], () => check(input.rest()));
}

function checkOpen(payload: Buffer): void {
  const request = decodeOpen(payload);
  // `from` is cut, perhaps in the middle of a character.
  const once = decodeOpen(encodeOpen(request));
  const line = encodeOpen(once);
  assert.deepEqual(decodeOpen(line), once);
  if (SERVICE_NAME.test(request.service)) assert.ok(line.length <= MAX_CONTROL_BYTES);
}

function checkReason(payload: Buffer): void {
  const reason = decodeReasonPayload(payload, 'RESET');
  assertShowable(reason.message);
  assert.ok(reason.message.length <= MAX_SHOWN_MESSAGE);
  const line = encodeReason(reason);
  assert.ok(line.length <= MAX_CONTROL_BYTES);
  assert.equal(decodeReasonPayload(line, 'RESET').code, reason.code);
}

function checkGoaway(payload: Buffer): void {
  const { code, message, last } = decodeGoaway(payload);
  assertShowable(message);
  const line = encodeGoaway({ code, message, last });
  assert.ok(line.length <= MAX_CONTROL_BYTES);
  const again = decodeGoaway(line);
  // JSON has a zero with a sign, and writes it without.
  assert.deepEqual([again.code, again.last], [code, last + 0]);
}

function checkServices(payload: Buffer): void {
  const { services } = decodeServices(payload);
  const frames = encodeServices(services);
  assert.ok(frames.every(({ length }) => length <= MAX_CONTROL_BYTES));
  const lists = frames.map((frame) => decodeServices(frame));
  assert.deepEqual(
    lists.flatMap((list) => list.services),
    services,
  );
  assert.deepEqual(
    lists.map(({ more }) => more),
    lists.map((_, index) => index < lists.length - 1),
  );
}

/** A credit is a 64-bit integer, limited to the largest safe number. */
function checkCredit(payload: Buffer): void {
  const total = decodeTotal(FRAME_TYPE.CREDIT, payload);
  const exact = payload.readBigUInt64BE(0);
  assert.equal(BigInt(total), exact > Number.MAX_SAFE_INTEGER ? BigInt(Number.MAX_SAFE_INTEGER) : exact);
  const again = Buffer.alloc(8);
  writeTotal(again, 0, total);
  assert.equal(decodeTotal(FRAME_TYPE.CREDIT, again), total);
}

/** What a session relies on in a HELLO. */
function checkHello(payload: Buffer): void {
  const { version, nonce, ack, instance, limits } = decodeHello(payload);
  assert.match(nonce, /^[0-9a-f]{32}$/);
  assert.match(ack ?? nonce, /^[0-9a-f]{32}$/);
  assert.match(instance, /^([0-9a-f]{32})?$/);
  assert.ok(Number.isInteger(version.min) && Number.isInteger(version.max) && version.min <= version.max);
  assert.deepEqual(Object.keys(limits), Object.keys(LIMIT_RANGES));
  for (const [key, [min, max]] of Object.entries(LIMIT_RANGES)) {
    const value = limits[key as keyof Limits];
    assert.ok(Number.isInteger(value) && value >= min && value <= max, key);
  }
}

/** Several SERVICES, each on a line. */
function checkLists(payloads: Buffer): void {
  const services = new PeerServices();
  for (const line of payloads.toString('latin1').split('\n')) {
    services.receive(Buffer.from(line, 'latin1'));
    assert.ok(services.state.names.size <= MAX_SERVICES);
  }
}
