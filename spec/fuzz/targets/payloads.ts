/** The payloads of control frames: decoded or a protocol error, and the same when they are encoded again. */
import assert from 'node:assert/strict';
import { FRAME_TYPE } from '../../../lib/codec/header.js';
import { decodeHello } from '../../../lib/codec/hello.js';
import * as limits from '../../../lib/codec/limits.js';
import * as payloads from '../../../lib/codec/payloads.js';
import { MAX_SERVICES, PeerServices } from '../../../lib/session/services.js';
import { assertShowable, FuzzInput, outcomeOf } from '../input.js';

// An escaped character takes up to ten.
const MAX_SHOWN_MESSAGE = 10 * limits.MAX_MESSAGE_BYTES + 1;

/** Input: which payload, then its bytes. */
export function fuzzPayloads(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const check = input.pick([checkOpen, checkReason, checkServices, checkGoaway, checkCredit, checkLists, checkHello]);
  outcomeOf(check === checkLists ? ['protocol-error', 'flood'] : ['protocol-error'], () => check(input.rest()));
}

function checkOpen(payload: Buffer): void {
  const request = payloads.decodeOpen(payload);
  // `from` is cut, perhaps in the middle of a character.
  const once = payloads.decodeOpen(payloads.encodeOpen(request));
  const line = payloads.encodeOpen(once);
  assert.deepEqual(payloads.decodeOpen(line), once);
  if (limits.SERVICE_NAME.test(request.service)) assert.ok(line.length <= limits.MAX_CONTROL_BYTES);
}

function checkReason(payload: Buffer): void {
  const reason = payloads.decodeReasonPayload(payload, 'RESET');
  assertShowable(reason.message);
  assert.ok(reason.message.length <= MAX_SHOWN_MESSAGE);
  const line = payloads.encodeReason(reason);
  assert.ok(line.length <= limits.MAX_CONTROL_BYTES);
  assert.equal(payloads.decodeReasonPayload(line, 'RESET').code, reason.code);
}

function checkGoaway(payload: Buffer): void {
  const { code, message, last } = payloads.decodeGoaway(payload);
  assertShowable(message);
  const line = payloads.encodeGoaway({ code, message, last });
  assert.ok(line.length <= limits.MAX_CONTROL_BYTES);
  const again = payloads.decodeGoaway(line);
  // JSON has a zero with a sign, and writes it without.
  assert.deepEqual([again.code, again.last], [code, last + 0]);
}

function checkServices(payload: Buffer): void {
  const { services } = payloads.decodeServices(payload);
  const frames = payloads.encodeServices(services);
  assert.ok(frames.every(({ length }) => length <= limits.MAX_CONTROL_BYTES));
  const lists = frames.map((frame) => payloads.decodeServices(frame));
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
  const total = payloads.decodeTotal(FRAME_TYPE.CREDIT, payload);
  const exact = payload.readBigUInt64BE(0);
  assert.equal(BigInt(total), exact > Number.MAX_SAFE_INTEGER ? BigInt(Number.MAX_SAFE_INTEGER) : exact);
  const again = Buffer.alloc(8);
  payloads.writeTotal(again, 0, total);
  assert.equal(payloads.decodeTotal(FRAME_TYPE.CREDIT, again), total);
}

/** What a session relies on in a HELLO. */
function checkHello(payload: Buffer): void {
  const { version, nonce, ack, instance, limits: own } = decodeHello(payload);
  assert.match(nonce, /^[0-9a-f]{32}$/);
  assert.match(ack ?? nonce, /^[0-9a-f]{32}$/);
  assert.match(instance, /^([0-9a-f]{32})?$/);
  assert.ok(Number.isInteger(version.min) && Number.isInteger(version.max) && version.min <= version.max);
  assert.deepEqual(Object.keys(own), Object.keys(limits.LIMIT_RANGES));
  for (const [key, [min, max]] of Object.entries(limits.LIMIT_RANGES)) {
    const value = own[key as keyof limits.Limits];
    assert.ok(Number.isInteger(value) && value >= min && value <= max, key);
  }
}

/** Several SERVICES, each on a line. */
function checkLists(lists: Buffer): void {
  const services = new PeerServices();
  for (const line of lists.toString('latin1').split('\n')) {
    services.receive(Buffer.from(line, 'latin1'));
    assert.ok(services.state.names.size <= MAX_SERVICES);
  }
}
