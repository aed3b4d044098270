/** R-OPEN-2 to R-OPEN-14, and R-AUTH-1. */
import { MAGIC } from '../../lib/codec/hello.js';
import type { Conversations } from '../script.js';
import { json } from './json.js';

const MAGIC_HEX = MAGIC.toString('hex');
const DONE = 'HELLO -> hello, established';

/** Bytes that are no HELLO; the last byte of a magic may be the first one of the next. */
const STALE = [
  `${Buffer.from('stale bytes of an earlier session \0').toString('hex')}*9000`,
  ...[MAGIC_HEX.slice(0, 10), MAGIC_HEX, `${MAGIC_HEX}*2`, MAGIC_HEX.slice(0, 30), `${MAGIC_HEX}01`],
  ...[`${MAGIC_HEX}${'01'.repeat(16)}`, `${MAGIC_HEX.slice(0, 6)}*300`, `${MAGIC_HEX}616263*5000`],
];

const LEAST = { frame: 4096, streamCredit: 1024, inFlight: 1024, streams: 1, opens: 1 };
const MOST = { frame: 1_048_576, streamCredit: 2 ** 30, inFlight: 2 ** 30, streams: 2 ** 20, opens: 65_536 };
const beyond = (key: keyof typeof MOST): unknown[] =>
  [LEAST[key] - 1, MOST[key] + 1, undefined, null, '4096', -1, 4096.5, 1e300].map((value) => ({
    ...MOST,
    [key]: value,
  }));

const INVALID: Readonly<Record<string, readonly unknown[]>> = {
  version: [undefined, null, 1, {}, ...[{ min: 1 }, { min: '1', max: 1 }, { min: 2, max: 1 }, { min: 0.5, max: 1 }]],
  nonce: [undefined, null, 7, '', 'f'.repeat(31), 'f'.repeat(33), 'F'.repeat(32), 'g'.repeat(32)],
  ack: [undefined, 7, false, '', 'f'.repeat(31)],
  integrity: [undefined, null, 1, true, 'on', 'FULL', ''],
  limits: [undefined, null, 7, [], ...(Object.keys(MOST) as (keyof typeof MOST)[]).flatMap(beyond)],
  instance: [7, '', 'short', 'F'.repeat(32)],
  agent: [7],
  name: [{}],
  auth: [
    ...[true, []],
    ...[undefined, null, 7, 'one', {}, [1], ['0123456'], ['0123456F'], ['012345678']].map((keys) => {
      return { method: 'psk-sha256', keys };
    }),
  ],
  tls: ['yes'],
  features: ['x', [1]],
};

const invalid = Object.entries(INVALID).map(([field, values]) => {
  const steps = values.map((value) => `HELLO ${value === undefined ? `-${field}` : json({ [field]: value })}`);
  return [`R-OPEN-5: a HELLO whose ${field} is missing, out of range or of another type is skipped`, steps] as const;
});

const OPTIONAL = ['instance', 'agent', 'name', 'auth', 'tls', 'features'];
const VALID = [
  { limits: LEAST },
  { limits: { ...MOST, more: 1 } },
  Object.fromEntries(OPTIONAL.map((field) => [field, null])),
  { future: { deep: [[[[]]]] }, features: Array.from({ length: 300 }, (_, index) => `f${index}`) },
  { version: { min: 0, max: 99 } },
].map(json);

const NOT_JSON = ['[]', '', '['.repeat(4096), '{"agent":"\u00ff"}', ' '.repeat(4097)];

const DEMANDS = [
  ...[{ method: null }, { method: 7, keys: 7 }, { method: 'other', keys: ['x'] }, {}],
  ...[['01234567'], []].map((keys) => ({ method: 'psk-sha256', keys })),
];

/** In an established session, by the codes that it ends with. */
const RESTARTS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'peer-restarted': {
    'a zero byte': 'BYTES 00',
    'a HELLO with another nonce': `HELLO ${json({ nonce: 'e'.repeat(32) })}`,
  },
  desync: {
    'a second magic after a magic': `BYTES ${MAGIC_HEX}*2`,
    'a PING after a magic': `BYTES ${MAGIC_HEX}, PING`,
    'a HELLO that is not valid': 'HELLO {"integrity":7}',
    'an empty HELLO': 'HELLO hex:',
    'half a magic and a zero byte': `BYTES ${MAGIC_HEX.slice(0, 30)}00`,
  },
};

export const OPENING: Conversations = {
  'R-OPEN-2: until it is established a side repeats its HELLO every second': `
    given opening=true; wait 1500 -> repeat; HELLO {"ack":null} -> hello; wait 1500 -> repeat; HELLO -> established`,
  'R-OPEN-3: other bytes than HELLO are skipped; after a failed magic the search resumes at its second byte': STALE.map(
    (bytes) => `given opening=true; BYTES ${bytes} -> nothing; ${DONE}`,
  ),
  'R-OPEN-3: half a HELLO of a predecessor hides the next one at most once': [
    `given opening=true; HELLO !cut=200, HELLO, HELLO -> hello, established`,
    // No UTF-8 text contains a magic: what this implementation finds at once.
    `given opening=true, inside=true; HELLO {"name":"${'x'.repeat(3000)}"} !cut=40, HELLO -> hello, established`,
  ],
  ...Object.fromEntries(
    invalid.map(([title, steps]) => [title, `given opening=true; ${steps.join(', ')} -> nothing; ${DONE}`]),
  ),
  'R-OPEN-5: the bounds of the ranges are valid, and so are unknown, absent and null fields': [
    ...VALID.map((fields) => `given opening=true; HELLO ${fields} -> hello, established`),
    `given opening=true; HELLO ${OPTIONAL.map((field) => `-${field}`).join(' ')} -> hello, established`,
  ],
  'R-OPEN-5: a HELLO frame with a wrong check, CRC, flag, stream, length or text is skipped': `
    given opening=true
    ${[17, 18, 23, 27, 31, 40].map((offset) => `HELLO !flip=${offset}`).join(', ')} -> nothing
    ${NOT_JSON.map((text) => `HELLO hex:${Buffer.from(text, 'latin1').toString('hex')}`).join(', ')} -> nothing
    ${DONE}`,
  'R-OPEN-6: a HELLO with the nonce or the instance of the side that receives it is ignored': `
    given opening=true
    HELLO {"nonce":"$nonce"}, HELLO {"instance":"$instance"} -> nothing
    ${DONE}`,
  'R-OPEN-7, R-OPEN-8: a HELLO with another nonce is answered at once, one with the same is not; only one whose ack is right establishes': `given opening=true
    HELLO {"ack":null} -> hello
    renew, HELLO {"ack":null} -> hello
    HELLO {"ack":"${'e'.repeat(32)}"}, HELLO {"ack":null} -> nothing
    HELLO -> established`,
  'R-OPEN-9, R-OPEN-10: the highest common version is spoken, whoever has the odd ids': [true, false].map(
    (isOdd) => `given opening=true, isOdd=${isOdd}; HELLO {"version":{"min":0,"max":7}} -> hello, established`,
  ),
  'R-OPEN-9: a peer without a common version gets GOAWAY and no frame before it': [
    [2, 3],
    [0, 0],
  ].map(
    ([min, max]) => `
      given opening=true
      HELLO ${json({ version: { min, max } })} -> hello, GOAWAY 0 version-mismatch, ends version-mismatch`,
  ),
  'R-AUTH-1: a peer that requires an unknown proof or TLS gets GOAWAY and no frame before it': [
    { tls: true },
    ...DEMANDS.map((auth) => ({ auth })),
  ].map((fields) => `given opening=true; HELLO ${json(fields)} -> hello, GOAWAY 0 auth-failed, ends auth-failed`),
  'R-OPEN-11: 5 s after an answer without being established the side starts over, and forgets the peer': `
    given opening=true
    HELLO {"ack":null} -> hello
    wait 6500 -> repeat, attempt
    HELLO {"ack":null} -> hello
    HELLO -> established`,
  'R-OPEN-11: several HELLOs within an attempt do not double its 5 s': `
    given opening=true
    ${'renew, HELLO {"ack":null} -> hello; '.repeat(4)}
    wait 6500 -> repeat, attempt
    HELLO -> hello, established`,
  'R-OPEN-13: the HELLO that ended a session counts as the first of the next attempt': `
    renew, HELLO {"ack":null}, wait 200 -> attempt, hello, ends peer-restarted
    HELLO -> established`,
  'R-OPEN-13: after a desync the bytes after the wrong frame are searched for a HELLO': `
    PING 0 !hasWrongCheck, renew, HELLO {"ack":null}, wait 200 -> attempt, hello, ends desync
    HELLO -> established`,
  'R-OPEN-14: in a session a HELLO of the peer with its nonce is ignored, and so is its own echoed back': `
    HELLO ${json({ instance: '$instance', nonce: 'd'.repeat(32) })}, HELLO {"nonce":"$nonce"}, HELLO, PING, HELLO -> PONG 0`,
  ...Object.fromEntries(
    Object.entries(RESTARTS).flatMap(([code, rows]) =>
      Object.entries(rows).map(([what, bytes]) => [
        `R-OPEN-14: in a session ${what} ends it with ${code}`,
        `OPEN 1 -> ACCEPT 1; ${bytes} -> ends ${code}; 1 is told end ${code}`,
      ]),
    ),
  ),
};
