/** Input of storage emulators, wrappers and brokers, and files of replies: one outcome in every split, stable when re-encoded. */
import assert from 'node:assert/strict';
import { type ErrorCode, VproxyError } from '../../../lib/errors.js';
import { EmulatorLink } from '../../../lib/storage/emulator-link.js';
import { matchesGlob, parseReplies } from '../../../lib/storage/replies.js';
import * as wire from '../../../lib/storage/wire.js';
import { WrapperCall } from '../../../lib/storage/wrapper-call.js';
import { Budget } from '../../../lib/util/bounds.js';
import { JsonScanner } from '../../../lib/util/bytes/json-scanner.js';
import { ManualClock } from '../../helpers/time.js';
import { alikeInSplits, assertShowable, everySplit, FuzzInput, LoopbackDuplex, outcomeOf } from '../input.js';

/** The same messages from every split, and none above the limit. Input: the limit, sizes, bytes. */
export function fuzzJsonScanner(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const maxBytes = 1 + 4 * input.byte();
  let stream = '';
  const { messages, end } = alikeInSplits(input, (chunks) => {
    stream = latin1(chunks);
    return scan(chunks, maxBytes);
  });
  assert.ok(messages.every(({ length }) => length > 0 && length <= maxBytes));
  if ('code' in end) return;
  assert.match(
    messages.reduce((text, message) => text.replace(message, () => ''), stream),
    /^[ \r\n\t]*$/,
  );
}

function scan(chunks: readonly Buffer[], maxBytes: number) {
  const scanner = new JsonScanner(maxBytes, 'storage-bad-request', 'it');
  const messages: string[] = [];
  const end = outcomeOf(['storage-bad-request'], () => {
    for (const chunk of chunks) {
      scanner.push(chunk);
      for (let message = scanner.next(); message; message = scanner.next()) messages.push(latin1([message]));
    }
    const isEmpty = scanner.isEmpty;
    const last = scanner.end();
    assert.equal(last === undefined, isEmpty);
    if (last) messages.push(latin1([last]));
    return isEmpty;
  });
  return { messages, end };
}

const latin1 = (chunks: readonly Buffer[]): string => Buffer.concat(chunks).toString('latin1');

/** One outcome for a call. Input: flags (1 the stream ends, 2 nothing is asked), sizes, what the emulator sends. */
export function fuzzEmulatorLink(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const flags = input.byte();
  alikeInSplits(input, (chunks) => callEmulator(chunks, flags));
}

/** The events of the caller and the pool. */
function callEmulator(chunks: readonly Buffer[], flags: number): readonly string[] {
  const told: string[] = [];
  const stream = new LoopbackDuplex();
  const link = new EmulatorLink('it', stream, (reason) => {
    told.push(`lost ${reason?.code ?? ''}`);
    if (reason === undefined) return;
    assert.ok(['storage-bad-reply', 'storage-unavailable'].includes(reason.code), reason.code);
    assertShowable(reason.message);
  });
  if ((flags & 2) === 0) {
    link.send({
      message: Buffer.from('{"argv":["a"]}\n'),
      budget: new Budget(Number.POSITIVE_INFINITY),
      settle(outcome) {
        told.push(outcome.kind === 'reply' ? `reply ${outcome.message.toString('hex')}` : outcome.error.code);
        if (outcome.kind === 'reply') assert.equal(wire.decodeReply(outcome.message).status, outcome.status);
        else assertShowable(outcome.error.message);
      },
    });
  }
  for (const chunk of chunks) stream.receive(chunk);
  if (flags & 1) stream.finish();
  // A link may be lost before its reply is passed on, or after: the pool hears of both.
  return told.sort();
}

const BUDGET_BYTES = 1024;
const CALL_CODES: readonly ErrorCode[] = ['storage-bad-request', 'storage-unavailable'];

/** One request or one failure, and no byte of the budget lost. Input: flags (1 the wrapper ends), sizes, what it sends. */
export function fuzzWrapperCall(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const flags = input.byte();
  const sizes = input.sizes();
  const [whole, ...others] = everySplit(input.rest(), sizes);
  const expected = callBroker(whole, flags);
  // What follows a request counts against the budget only if it came in the same chunk.
  if (Buffer.concat(whole).length > BUDGET_BYTES) return;
  for (const chunks of others) assert.deepEqual(callBroker(chunks, flags), expected);
}

function callBroker(chunks: readonly Buffer[], flags: number): readonly string[] {
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
      assert.ok((CALL_CODES as readonly string[]).includes(code), code);
      assertShowable(message);
    },
    onClosed: ({ argv }) => told.push(`closed ${argv.length}`),
  }).budget.reserve(0);
  for (const chunk of chunks) socket.receive(chunk);
  if (flags & 1) socket.finish();
  // A wrapper without a complete request gets a failure in time.
  clock.advance(10_000);
  const answers = Buffer.concat(socket.written).toString('utf8').trim();
  if (answers !== '') outcomeOf(CALL_CODES, () => wire.decodeAnswer(Buffer.from(answers)));
  socket.emit('close');
  assert.equal(clock.pending, 0);
  assert.ok(budget.reserve(BUDGET_BYTES), 'the budget is whole again');
  assert.ok(told.filter((text) => /^(?:request|storage)/.test(text)).length <= 1);
  return told;
}

/** Values that are stable when re-encoded, or our codes. Input: the kind, then the message. */
export function fuzzStorageWire(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const check = input.pick([checkRequest, checkReply, checkAnswer, checkFile]);
  check(input.rest());
}

function checkRequest(message: Buffer): void {
  const outcome = outcomeOf(['storage-bad-request'], () => wire.decodeRequest(message));
  if ('code' in outcome) return;
  const line = oneLine(wire.encodeRequest(outcome.value));
  assert.ok(line.every((byte) => byte < 0x7f));
  assert.deepEqual(wire.decodeRequest(line), outcome.value);
}

function checkReply(message: Buffer): void {
  const outcome = outcomeOf(['storage-bad-reply'], () => wire.decodeReply(message));
  if ('code' in outcome) return;
  checkAgain(outcome.value);
  const { stdoutBase64 } = JSON.parse(message.toString('utf8')) as { stdoutBase64?: string };
  // Text that is not base64 is ignored when decoded, so that the length differs.
  if (stdoutBase64 !== undefined) assert.equal(outcome.value.stdout.toString('base64').length, stdoutBase64.length);
}

/** The answer of a broker is a reply, or an error with the code that it names. */
function checkAnswer(message: Buffer): void {
  try {
    checkAgain(wire.decodeAnswer(message));
  } catch (error) {
    if (!(error instanceof VproxyError)) throw error;
    const { code, message: text } = error;
    const line = oneLine(wire.encodeFailure(error));
    assert.throws(() => wire.decodeAnswer(line), { name: 'VproxyError', code, message: text });
  }
}

function checkAgain(received: wire.StorageReply): void {
  // JSON has a zero with a sign, and writes it without.
  const reply = { ...received, status: received.status + 0 };
  const line = oneLine(wire.encodeReply(reply));
  for (const decode of [wire.decodeReply, wire.decodeAnswer]) assert.deepEqual(decode(line), reply);
}

function oneLine(line: Buffer): Buffer {
  assert.equal(line.indexOf('\n'), line.length - 1);
  return line;
}

/** Every reply of a file that is accepted can be sent. */
function checkFile(message: Buffer): void {
  const outcome = outcomeOf(['bad-file'], () => parseReplies(message.toString('utf8'), 'replies.json'));
  if ('code' in outcome) return;
  for (const argv of [['a'], ['/x/storcli64', '/c0', 'show'], ['b', '*', '']]) {
    wire.decodeReply(wire.encodeReply(outcome.value.answer({ argv })));
  }
}

const MAX_GLOB_LENGTH = 60;

/** Patterns of replies against a plain definition. Input: a pattern and a text, with a newline between. */
export function fuzzGlob(bytes: Uint8Array): void {
  const [pattern = '', ...rest] = new FuzzInput(bytes).rest().toString('latin1').split('\n');
  const [short, text] = [pattern, rest.join('\n')].map((one) => one.slice(0, MAX_GLOB_LENGTH)) as [string, string];
  assert.equal(matchesGlob(short, text), matches(short, text));
}

/** Keeps, for each place in the text, whether the pattern so far matches the text up to there. */
function matches(pattern: string, text: string): boolean {
  let row = Array.from({ length: text.length + 1 }, (_, place) => place === 0);
  for (const sign of pattern) {
    const next: boolean[] = [];
    for (let place = 0; place <= text.length; place += 1) {
      const isTaken = place > 0 && row[place - 1] === true && (sign === '?' || sign === text[place - 1]);
      next.push(sign === '*' ? row[place] === true || next[place - 1] === true : isTaken);
    }
    row = next;
  }
  return row[text.length] === true;
}
