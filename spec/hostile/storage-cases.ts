/** What a peer that poses as a storage emulator may answer to a call, and the code that the caller gets (docs/storage.md). */
import type { ErrorCode } from '../../lib/errors.js';

/** A reply that is not valid. */
export interface StorageCase {
  readonly what: string;
  readonly code: ErrorCode;
  /**
   * The bytes that are sent on the stream of the call; null: the stream is refused, undefined: nothing is ever sent.
   */
  readonly reply: Buffer | null | undefined;
}

const text = (value: string): Buffer => Buffer.from(value);
const reply = (fields: string): Buffer => text(`{"stdout":"","stderr":"",${fields}}\n`);

export const STORAGE_CASES: readonly StorageCase[] = [
  { what: 'escapes that are no JSON', code: 'storage-bad-reply', reply: text('\u001b[2J\u0007owned\n') },
  { what: '100,000 open brackets', code: 'storage-bad-reply', reply: text(`${'['.repeat(100_000)}\n`) },
  {
    what: '100,000 lists in one another',
    code: 'storage-bad-reply',
    reply: text(`${'['.repeat(1e5)}${']'.repeat(1e5)}\n`),
  },
  { what: 'a status of 1e999', code: 'storage-bad-reply', reply: reply('"status":1e999') },
  { what: 'a status of -1', code: 'storage-bad-reply', reply: reply('"status":-1') },
  { what: 'a status of 1.5', code: 'storage-bad-reply', reply: reply('"status":1.5') },
  { what: 'a status in __proto__', code: 'storage-bad-reply', reply: reply('"__proto__":{"status":0}') },
  {
    what: 'a reply with base64 that is none',
    code: 'storage-bad-reply',
    reply: reply('"status":0,"stdoutBase64":"%"'),
  },
  { what: 'a REFUSE full of escapes', code: 'storage-unavailable', reply: null },
  { what: 'nothing', code: 'storage-timeout', reply: undefined },
];
