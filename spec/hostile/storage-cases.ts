/** Answers of a peer that poses as a storage emulator to a call, and the code that the caller gets (docs/storage.md). */
import type { ErrorCode } from '../../lib/errors.js';

/** `reply` is sent on the stream of the call; null: the stream is refused, undefined: nothing is ever sent. */
export type StorageCase = readonly [what: string, code: ErrorCode, reply: string | null | undefined];

const reply = (fields: string): string => `{"stdout":"","stderr":"",${fields}}\n`;

export const STORAGE_CASES: readonly StorageCase[] = [
  ['escapes that are not JSON', 'storage-bad-reply', '\u001b[2J\u0007owned\n'],
  ['100,000 open brackets', 'storage-bad-reply', `${'['.repeat(100_000)}\n`],
  ['100,000 lists in one another', 'storage-bad-reply', `${'['.repeat(1e5)}${']'.repeat(1e5)}\n`],
  ['a status of 1e999', 'storage-bad-reply', reply('"status":1e999')],
  ['a status of -1', 'storage-bad-reply', reply('"status":-1')],
  ['a status of 1.5', 'storage-bad-reply', reply('"status":1.5')],
  ['a status in __proto__', 'storage-bad-reply', reply('"__proto__":{"status":0}')],
  ['a reply with invalid base64', 'storage-bad-reply', reply('"status":0,"stdoutBase64":"%"')],
  ['a REFUSE full of escapes', 'storage-unavailable', null],
  ['nothing', 'storage-timeout', undefined],
];
