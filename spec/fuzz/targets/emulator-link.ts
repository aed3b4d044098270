/** What a storage emulator answers, as the broker reads it: one outcome for a call, in every split of the bytes. */
import assert from 'node:assert/strict';
import { EmulatorLink } from '../../../lib/storage/emulator-link.js';
import { decodeReply } from '../../../lib/storage/wire.js';
import { Budget } from '../../../lib/util/bounds.js';
import { everySplit, FuzzInput } from '../fuzz-input.js';
import { LoopbackDuplex } from '../loopback-duplex.js';
import { assertShowable } from '../outcome.js';

const CODES = ['storage-bad-reply', 'storage-unavailable'];

/** Input: flags (1 the stream ends, 2 nothing is asked), sizes, what the emulator sends. */
export function fuzzEmulatorLink(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const flags = input.byte();
  const sizes = input.sizes();
  const [whole, ...others] = everySplit(input.rest(), sizes);
  const expected = call(whole, flags);
  for (const chunks of others) assert.deepEqual(call(chunks, flags), expected);
}

/** What the caller and the pool are told, in order. */
function call(chunks: readonly Buffer[], flags: number): readonly string[] {
  const told: string[] = [];
  const stream = new LoopbackDuplex();
  const link = new EmulatorLink('it', stream, (reason) => {
    told.push(`lost ${reason?.code ?? ''}`);
    if (reason === undefined) return;
    assert.ok(CODES.includes(reason.code), reason.code);
    assertShowable(reason.message);
  });
  if ((flags & 2) === 0) {
    link.send({
      message: Buffer.from('{"argv":["a"]}\n'),
      budget: new Budget(Number.POSITIVE_INFINITY),
      settle(outcome) {
        told.push(outcome.kind === 'reply' ? `reply ${outcome.message.toString('hex')}` : outcome.error.code);
        if (outcome.kind === 'reply') assert.equal(decodeReply(outcome.message).status, outcome.status);
        else assertShowable(outcome.error.message);
      },
    });
  }
  for (const chunk of chunks) stream.receive(chunk);
  if (flags & 1) stream.finish();
  // A link may be lost before its reply is passed on, or after: the pool hears of both.
  return told.sort();
}
