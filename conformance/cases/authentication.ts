/** R-AUTH-1 and R-AUTH-2. */
import { createHash } from 'node:crypto';
import { KEY } from '../frame-maker.js';
import type { Conversations } from '../script.js';
import { json } from './json.js';

const ID = createHash('sha256').update(KEY).digest('hex').slice(0, 8);
const withKeys = (keys: readonly string[], fields: object = {}): string =>
  json({ ...fields, auth: { method: 'psk-sha256', keys } });

/** Both sides are established, and only the side under test has proved its key. */
const ASKED = `given opening=true, keyed=true; HELLO ${withKeys([ID])} -> hello, AUTH 0`;

const refused = (frame: string): string => `${ASKED}; ${frame} -> GOAWAY 0 auth-failed, ends auth-failed`;

export const AUTHENTICATION: Conversations = {
  'R-AUTH-2: a peer with the key is admitted after its AUTH, which binds both HELLOs byte for byte': [
    `${ASKED}; prove -> established`,
    `given opening=true, keyed=true; HELLO ${withKeys(['00000000', ID], { future: [1, 2] })} -> hello, AUTH 0; prove -> established`,
    `given opening=true, keyed=true, isOdd=false; HELLO ${withKeys([ID])} -> hello, AUTH 0; prove -> established`,
  ],
  'R-AUTH-2: a wrong AUTH, of any size, is auth-failed': [0, 31, 32, 33].map((bytes) => refused(`AUTH 0 ${bytes}`)),
  'R-AUTH-2: an AUTH with a changed byte is a desync': `${ASKED}; AUTH 0 hex:${'5a'.repeat(32)} !flip=20 -> ends desync`,
  'R-AUTH-2: a peer without a key, or without one in common, gets a GOAWAY and nothing else': [
    `given opening=true, keyed=true; HELLO -> hello, GOAWAY 0 auth-failed, ends auth-failed`,
    `given opening=true, keyed=true; HELLO ${withKeys(['00000000'])} -> hello, GOAWAY 0 auth-failed, ends auth-failed`,
  ],
  'R-AUTH-2: any other frame before AUTH is a protocol error, whatever its payload': [
    ...['OPEN 1', '04 1 1', 'DATA 1', 'PING', 'SERVICES', 'SECRET'].map(
      (frame) => `${ASKED}; ${frame} -> GOAWAY 0 protocol-error, ends protocol-error`,
    ),
    `${ASKED}; GOAWAY 0 auth-failed -> nothing, ends auth-failed`,
  ],
  'R-AUTH-2: skipped types may come before AUTH': `${ASKED}; 80 7 100, fe 7 100, prove -> established`,
  'R-AUTH-1: a second AUTH is a protocol error': `${ASKED}; prove -> established; prove -> ends protocol-error`,
};
