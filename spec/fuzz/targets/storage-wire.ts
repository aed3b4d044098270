/** Storage requests, replies, failures and files of replies: values that are the same when encoded again, or our codes. */
import assert from 'node:assert/strict';
import { VproxyError } from '../../../lib/errors.js';
import { parseReplies } from '../../../lib/storage/replies.js';
import {
  decodeAnswer,
  decodeReply,
  decodeRequest,
  encodeFailure,
  encodeReply,
  encodeRequest,
  type StorageReply,
} from '../../../lib/storage/wire.js';
import { FuzzInput } from '../fuzz-input.js';
import { outcomeOf } from '../outcome.js';

/** Input: what it is, then the message. */
export function fuzzStorageWire(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const check = input.pick([checkRequest, checkReply, checkAnswer, checkFile]);
  check(input.rest());
}

function checkRequest(message: Buffer): void {
  const outcome = outcomeOf(['storage-bad-request'], () => decodeRequest(message));
  if ('code' in outcome) return;
  const line = encodeRequest(outcome.value);
  assert.equal(line.indexOf('\n'), line.length - 1);
  assert.deepEqual(decodeRequest(line), outcome.value);
}

function checkReply(message: Buffer): void {
  const outcome = outcomeOf(['storage-bad-reply'], () => decodeReply(message));
  if ('code' in outcome) return;
  checkAgain(outcome.value);
  const { stdoutBase64 } = JSON.parse(message.toString('utf8')) as { stdoutBase64?: string };
  if (stdoutBase64 === undefined) return;
  // Text that is not base64 is ignored when decoded, so that the length differs.
  assert.equal(outcome.value.stdout.toString('base64').length, stdoutBase64.length);
}

/** What a broker answers is a reply, or an error with the code that it names. */
function checkAnswer(message: Buffer): void {
  try {
    checkAgain(decodeAnswer(message));
  } catch (error) {
    if (!(error instanceof VproxyError)) throw error;
    const { code, message: text } = error;
    const line = encodeFailure(error);
    assert.equal(line.indexOf('\n'), line.length - 1);
    assert.throws(() => decodeAnswer(line), { name: 'VproxyError', code, message: text });
  }
}

function checkAgain(received: StorageReply): void {
  // JSON has a zero with a sign, and writes it without.
  const reply = { ...received, status: received.status + 0 };
  const line = encodeReply(reply);
  assert.equal(line.indexOf('\n'), line.length - 1);
  assert.deepEqual(decodeReply(line), reply);
  assert.deepEqual(decodeAnswer(line), reply);
}

/** Every reply of a file that is accepted can be sent. */
function checkFile(message: Buffer): void {
  const outcome = outcomeOf(['bad-file'], () => parseReplies(message.toString('utf8'), 'replies.json'));
  if ('code' in outcome) return;
  for (const argv of [['a'], ['/x/storcli64', '/c0', 'show'], ['b', '*', '']]) {
    decodeReply(encodeReply(outcome.value.answer({ argv })));
  }
}
