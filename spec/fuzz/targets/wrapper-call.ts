/** What a wrapper sends to the broker: one request or one failure, in every split, and no byte of the budget lost. */

import assert from 'node:assert/strict';
import { decodeAnswer, encodeReply } from '../../../lib/storage/wire.js';
import { WrapperCall } from '../../../lib/storage/wrapper-call.js';
import { Budget } from '../../../lib/util/bounds.js';
import { ManualClock } from '../../helpers/time.js';
import { everySplit, FuzzInput } from '../fuzz-input.js';
import { LoopbackDuplex } from '../loopback-duplex.js';
import { assertShowable, outcomeOf } from '../outcome.js';

const BUDGET_BYTES = 1024;

/** Input: flags (1 the wrapper closes its sending side), sizes, what the wrapper sends. */
export function fuzzWrapperCall(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const flags = input.byte();
  const sizes = input.sizes();
  const [whole, ...others] = everySplit(input.rest(), sizes);
  const expected = call(whole, flags);
  // What follows a request counts against the budget only if it came in the same chunk.
  if (Buffer.concat(whole).length > BUDGET_BYTES) return;
  for (const chunks of others) assert.deepEqual(call(chunks, flags), expected);
}

function call(chunks: readonly Buffer[], flags: number): readonly string[] {
  const told: string[] = [];
  const socket = new LoopbackDuplex();
  const budget = new Budget(BUDGET_BYTES);
  const clock = new ManualClock();
  new WrapperCall(socket, clock, budget, {
    onRequest({ argv }) {
      told.push(`request ${JSON.stringify(argv)}`);
    },
    onBadRequest({ code, message }) {
      told.push(code);
      assert.ok(['storage-bad-request', 'storage-unavailable'].includes(code), code);
      assertShowable(message);
    },
    onClosed: ({ argv }) => told.push(`closed ${argv.length}`),
  }).budget.reserve(0);
  for (const chunk of chunks) socket.receive(chunk);
  if (flags & 1) socket.finish();
  // A wrapper without a complete request gets a failure in time.
  clock.advance(10_000);
  const answers = Buffer.concat(socket.written).toString('utf8').trim();
  if (answers !== '') {
    const codes = ['storage-bad-request', 'storage-unavailable'] as const;
    outcomeOf(codes, () => decodeAnswer(Buffer.from(answers)));
  }
  socket.emit('close');
  assert.equal(clock.pending, 0);
  assert.ok(budget.reserve(BUDGET_BYTES), 'the budget is whole again');
  assert.equal(told.filter((text) => text.startsWith('request') || text.startsWith('storage')).length <= 1, true);
  assert.ok(encodeReply({}).length > 0);
  return told;
}
