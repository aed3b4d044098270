/** The scanner of JSON objects: the same messages from every split, and none above the bound. */
import assert from 'node:assert/strict';
import { JsonScanner } from '../../../lib/util/bytes/json-scanner.js';
import { everySplit, FuzzInput } from '../fuzz-input.js';
import { type Outcome, outcomeOf } from '../outcome.js';

/** Input: the bound of a message, sizes, bytes. */
export function fuzzJsonScanner(bytes: Uint8Array): void {
  const input = new FuzzInput(bytes);
  const maxBytes = 1 + 4 * input.byte();
  const sizes = input.sizes();
  const [whole, ...others] = everySplit(input.rest(), sizes);
  const expected = scan(whole, maxBytes);
  for (const chunks of others) assert.deepEqual(scan(chunks, maxBytes), expected);
  const { messages } = expected;
  assert.ok(messages.every(({ length }) => length > 0 && length <= maxBytes));
  if (!('value' in expected.end)) return;
  const isSpace = (text: string): boolean => /^[ \r\n\t]*$/.test(text);
  assert.ok(isSpace(messages.reduce((text, message) => text.replace(message, () => ''), latin1(whole))));
}

interface Scanned {
  readonly messages: readonly string[];
  readonly end: Outcome<boolean>;
}

function scan(chunks: readonly Buffer[], maxBytes: number): Scanned {
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
