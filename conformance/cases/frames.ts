/** R-FRAME-1 to R-FRAME-8, R-INTEGRITY-1 to R-INTEGRITY-4, and the codes that sessions end with. */
import { FRAME_TYPE, INTEGRITY_LEVELS } from '../../lib/codec/header.js';
import type { Conversations } from '../script.js';
import { json } from './json.js';

const { AUTH, SERVICES, OPEN, ACCEPT, REFUSE, DATA, FIN, STOP, RESET, PING, PONG, GOAWAY, SECRET, RESUME, ACK } =
  FRAME_TYPE;

const hex = (text: string, encoding: BufferEncoding = 'utf8'): string =>
  `hex:${Buffer.from(text, encoding).toString('hex')}`;
const byte = (type: number): string => type.toString(16).padStart(2, '0');

/** One frame after stream 1 was opened. */
type Wrong = readonly [what: string, frame: string];

/** By the rules, and the codes that sessions end with. */
const WRONG: Readonly<Record<string, Readonly<Record<string, readonly Wrong[]>>>> = {
  'R-FRAME-2': {
    desync: [
      ['a wrong check', 'PING 0 !hasWrongCheck'],
      ['DATA with a wrong check', 'DATA 1 lost !hasWrongCheck'],
    ],
  },
  'R-FRAME-3': {
    desync: [
      ['a sequence number that was used', 'FIN 1 !skip=-1'],
      ['a sequence number that was skipped', 'FIN 1 !skip=1'],
      ['the sequence number of HELLO', 'FIN 1 !sequence=0'],
    ],
  },
  'R-FRAME-4': {
    // On the header alone: the payload never comes.
    'protocol-error': [
      ['DATA above limits.frame', 'DATA 1 hex: !length={frame+1}'],
      ['DATA of 4 GiB', `DATA 1 hex: !length=4294967295`],
      ['OPEN above 4096', 'OPEN 3 hex: !length=4097'],
      ['SERVICES of 4 GiB', `SERVICES 0 hex: !length=4294967295`],
      ['an unknown type above limits.frame', '80 0 !length={frame+1}'],
      ['empty DATA', 'DATA 1 hex:'],
    ],
  },
  'R-FRAME-5': {
    desync: [['FF that begins no magic', 'ff 0']],
    'peer-restarted': [['type 00', '00 0']],
    'protocol-error': [
      ['type 12', '12 0'],
      ['type 7F', '7f 0'],
      ['a counted HELLO', '01 0 {}'],
      ['an unexpected AUTH', 'AUTH'],
      ['RESUME in a session', 'RESUME 0 40'],
    ],
  },
  'R-RESUME-1': {
    'protocol-error': [
      ['SECRET in a session that is not resumable', 'SECRET'],
      ['an empty SECRET', 'SECRET 0 hex:'],
      ['ACK in a session that is not resumable', 'ACK'],
    ],
  },
  'R-FRAME-6': {
    // Whatever the type, and after the check.
    desync: [['a flag and a wrong check', 'FIN 1 !flags=1 !hasWrongCheck']],
    'protocol-error': [
      ['a flag', 'FIN 1 !flags=1'],
      ['a flag on an unknown type', '80 0 !flags=128'],
    ],
  },
  'R-FRAME-7': {
    'protocol-error': [
      ['ACCEPT with a payload', 'ACCEPT 1 hex:78'],
      ['FIN with a payload', 'FIN 1 hex:78'],
      ['CREDIT of 7 bytes', `CREDIT 1 hex:${'00'.repeat(7)}`],
      ['CREDIT of 9 bytes', `CREDIT 0 hex:${'00'.repeat(9)}`],
      ['PING of 7 bytes', `PING 0 hex:${'00'.repeat(7)}`],
      ['PONG of 9 bytes', `PONG 0 hex:${'00'.repeat(9)}`],
      ['an empty OPEN', 'OPEN 3 hex:'],
      ['OPEN that is a list', 'OPEN 3 ["echo"]'],
      ['OPEN without a service', 'OPEN 3 {}'],
      ['OPEN with a number as service', 'OPEN 3 {"service":7}'],
      ['OPEN with a number as from', 'OPEN 3 {"service":"a","from":7}'],
      ['OPEN in invalid UTF-8', `OPEN 3 ${hex('{"service":"\xc3("}', 'latin1')}`],
      ['OPEN after a byte order mark', `OPEN 3 ${hex('\ufeff{"service":"a"}')}`],
      ['OPEN of 4,096 brackets', `OPEN 3 ${'['.repeat(4096)}`],
      ['RESET without a code', 'RESET 1 {"message":""}'],
      ['RESET without a message', 'RESET 1 {"code":"denied"}'],
      ['GOAWAY without last', 'GOAWAY 0 {"code":"shutdown","message":""}'],
      ['GOAWAY with last above 2^32-1', `GOAWAY 0 ${json({ code: 'shutdown', message: '', last: 2 ** 32 })}`],
    ],
  },
  'R-CODE-1': { 'protocol-error': [['STOP with a code of invalid characters', 'STOP 1 {"code":"No!","message":""}']] },
  'R-FRAME-8': {
    'protocol-error': [
      ...[OPEN, ACCEPT, REFUSE, DATA, FIN, STOP, RESET].map((type): Wrong => {
        return [`type ${byte(type)} on stream 0`, `${byte(type)} 0 !length=2`];
      }),
      ...[AUTH, SERVICES, PING, PONG, GOAWAY, SECRET, RESUME, ACK].map((type): Wrong => {
        return [`type ${byte(type)} on stream 1`, `${byte(type)} 1 !length=8`];
      }),
    ],
  },
  'R-INTEGRITY-1': {
    desync: [
      ['DATA with a wrong CRC', 'DATA 1 x !crc=1'],
      ['a control frame with a wrong CRC', 'FIN 1 !crc=1'],
    ],
  },
  'R-SERVICES-1': {
    'protocol-error': [
      ['SERVICES that is not a list', 'SERVICES 0 {"services":"ssh"}'],
      ['SERVICES with a bad name', `SERVICES 0 ${json({ services: ['a b'] })}`],
      ['SERVICES whose more is not a boolean', 'SERVICES 0 {"services":[],"more":1}'],
    ],
  },
};

/** Sent in pieces of any size. */
export const WRONG_FRAMES: Conversations = Object.fromEntries(
  Object.entries(WRONG).flatMap(([rule, codes]) =>
    Object.entries(codes).flatMap(([code, frames]) =>
      frames.map(([what, frame]) => [
        `${rule}: ${what} ends the session with ${code}`,
        `OPEN 1 -> ACCEPT 1; ${frame} -> ends ${code}; 1 is told end ${code}`,
      ]),
    ),
  ),
);

const types = Array.from({ length: 0x7f }, (_, index) => `${byte(0x80 + index)} 77 new`);

export const FRAMES: Conversations = {
  'R-FRAME-4: DATA as large as the limit, and control frames of 4096 bytes, are accepted': [
    'given limits.frame=8192; OPEN 1, DATA 1 8192 -> ACCEPT 1; 1 is told data',
    `OPEN 1 ${'x'.repeat(4096 - '{"service":""}'.length)} -> REFUSE 1 unknown-service`,
  ],
  'R-FRAME-5: unknown types 80 to FE are skipped, with any stream id, empty or as large as DATA': `
    given limits.frame=4096
    ${types.join(', ')}, 80 0 hex: !crc=5, fe 0 {frame} -> nothing`,
  'R-FRAME-6: bytes that begin no frame are judged after 16 of them, a zero byte at once': [
    ...['ff', '01', '0c', '7f'].map(
      (first) => `BYTES ${first}${'01'.repeat(14)}, wait 50 -> nothing; BYTES 01 -> ends desync`,
    ),
    'BYTES 00 -> ends peer-restarted',
  ],
  'R-INTEGRITY-2: in frame the CRC field of DATA is ignored': `
    given integrity=frame
    OPEN 1, DATA 1 hello !crc=99, DATA 1 4096 -> ACCEPT 1
    1 is told data, data`,
  'R-INTEGRITY-3: no byte of DATA is handed on before it is verified': [
    ...['full !crc=7', 'frame !trailer=7'].map((level) => {
      const [name = '', fault = ''] = level.split(' ');
      return `given integrity=${name}; OPEN 1, DATA 1 4000, DATA 1 4000 ${fault} -> ..., ends desync; 1 is told data, end desync`;
    }),
  ],
  'R-INTEGRITY-3: bytes lost, repeated or inserted within DATA end the session, and none of it is handed on': [
    'DATA 1 3000 !lostFrom=100 !lost=1, DATA 1 3000',
    'DATA 1 3000 !cut=100, DATA 1 3000 !lostFrom=0 !lost=4',
    `DATA 1 3000 !cut=500, BYTES ${'41'.repeat(100)}, DATA 1 3000`,
  ].flatMap((frames) =>
    INTEGRITY_LEVELS.map(
      (level) => `given integrity=${level}; OPEN 1, ${frames} -> ..., ends desync; 1 is told end desync`,
    ),
  ),
  'R-INTEGRITY-3: a frame completed by a flush, wherever it was cut, is a restart of the peer, and none of it is handed on':
    [
      ...INTEGRITY_LEVELS.flatMap((level) => [17, 516, 1000].map((at) => [level, at, 'peer-restarted'] as const)),
      ['frame', 1016, 'peer-restarted'] as const,
      // Within its trailer it is wrong.
      ...[1017, 1018, 1019].map((at) => ['frame', at, 'desync'] as const),
    ].map(
      ([level, at, code]) => `
      given integrity=${level}
      OPEN 1, DATA 1 1000 !trailer=16909060 !cut=${at}, BYTES 00*131088 -> ..., ends ${code}
      1 is told end ${code}`,
    ),
  'R-INTEGRITY-4: a byte of DATA changed in place is detected in full, but not in frame': [
    'given integrity=full; OPEN 1, DATA 1 hello !flip=16 -> ..., ends desync; 1 is told end desync',
    'given integrity=frame; OPEN 1, DATA 1 hello !flip=16 -> ACCEPT 1; 1 is told data',
  ],
};
