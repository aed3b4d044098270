import test from 'ava';
import { FRAME_TYPE, INTEGRITY_LEVELS } from '../../lib/codec/header.js';
import { conversations, endsWith, goesOn } from '../helpers/conversation.js';
import type { FrameFaults } from '../helpers/frame-maker.js';
import type { FramePeer } from '../helpers/frame-peer.js';

const { AUTH, SERVICES, OPEN, ACCEPT, REFUSE, DATA, CREDIT, FIN, STOP, RESET, PING, PONG, GOAWAY } = FRAME_TYPE;
const { SECRET, RESUME, ACK } = FRAME_TYPE;

const text = (value: string): Buffer => Buffer.from(value);

/** One frame, on stream 1 if the peer has opened it. */
type Wrong = readonly [
  what: string,
  type: number,
  id: number,
  payload?: Buffer | object | undefined,
  faults?: FrameFaults,
];

/** By the codes that sessions end with. */
const WRONG: Readonly<Record<string, readonly Wrong[]>> = {
  desync: [
    // R-FRAME-2, R-FRAME-3
    ['a wrong check', PING, 0, Buffer.alloc(8), { hasWrongCheck: true }],
    ['DATA with a wrong check', DATA, 1, text('lost'), { hasWrongCheck: true }],
    ['a flag and a wrong check', FIN, 1, undefined, { flags: 1, hasWrongCheck: true }],
    ['a sequence number that was used', FIN, 1, undefined, { sequence: 1 }],
    ['a sequence number that was skipped', FIN, 1, undefined, { sequence: 3 }],
    ['the sequence number of HELLO', FIN, 1, undefined, { sequence: 0 }],
    // R-INTEGRITY-1, R-INTEGRITY-2
    ['DATA with a wrong CRC', DATA, 1, text('x'), { crc: 1 }],
    ['a control frame with a wrong CRC', FIN, 1, undefined, { crc: 1 }],
    // R-FRAME-5
    ['FF that begins no magic', 0xff, 0],
  ],
  'peer-restarted': [['type 00', 0x00, 0]],
  'protocol-error': [
    // R-FRAME-5
    ['type 12', 0x12, 0],
    ['type 7F', 0x7f, 0],
    ['a counted HELLO', 0x01, 0, {}],
    ['SECRET in a session that is not resumable', SECRET, 0, Buffer.alloc(32)],
    ['ACK in a session that is not resumable', ACK, 0, Buffer.alloc(8)],
    ['RESUME in a session', RESUME, 0, Buffer.alloc(40)],
    ['an empty SECRET', 0x0f, 0],
    ['an unexpected AUTH', AUTH, 0, Buffer.alloc(32)],
    // R-FRAME-6: before the length, and whatever the type
    ['a flag', FIN, 1, undefined, { flags: 1 }],
    ['a flag on an unknown type', 0x80, 0, undefined, { flags: 0x80 }],
    // R-FRAME-4: on the header alone; the payload never comes
    ['DATA above limits.frame', DATA, 1, undefined, { length: 8193 }],
    ['DATA of 4 GiB', DATA, 1, undefined, { length: 0xffff_ffff }],
    ['OPEN above 4096', OPEN, 3, undefined, { length: 4097 }],
    ['SERVICES of 4 GiB', SERVICES, 0, undefined, { length: 0xffff_ffff }],
    ['an unknown type above limits.frame', 0x80, 0, undefined, { length: 8193 }],
    ['empty DATA', DATA, 1],
    // R-FRAME-8
    ...[OPEN, ACCEPT, REFUSE, DATA, FIN, STOP, RESET].map((type): Wrong => {
      return [`type ${type} on stream 0`, type, 0, undefined, { length: 2 }];
    }),
    ...[AUTH, SERVICES, PING, PONG, GOAWAY, SECRET, RESUME, ACK].map((type): Wrong => {
      return [`type ${type} on stream 1`, type, 1, undefined, { length: 8 }];
    }),
    // R-FRAME-7
    ['ACCEPT with a payload', ACCEPT, 1, text('x')],
    ['FIN with a payload', FIN, 1, text('x')],
    ['CREDIT of 7 bytes', CREDIT, 1, Buffer.alloc(7)],
    ['CREDIT of 9 bytes', CREDIT, 0, Buffer.alloc(9)],
    ['PING of 7 bytes', PING, 0, Buffer.alloc(7)],
    ['PONG of 9 bytes', PONG, 0, Buffer.alloc(9)],
    ['an empty OPEN', OPEN, 3],
    ['OPEN that is a list', OPEN, 3, ['echo']],
    ['OPEN without a service', OPEN, 3, {}],
    ['OPEN with a number as service', OPEN, 3, { service: 7 }],
    ['OPEN with a number as from', OPEN, 3, { service: 'a', from: 7 }],
    ['OPEN in invalid UTF-8', OPEN, 3, Buffer.from('{"service":"\xc3("}', 'latin1')],
    ['OPEN after a byte order mark', OPEN, 3, text('\ufeff{"service":"a"}')],
    ['deep JSON', OPEN, 3, text('['.repeat(4096))],
    ['RESET without a code', RESET, 1, { message: '' }],
    ['RESET without a message', RESET, 1, { code: 'denied' }],
    ['STOP with a code of invalid characters', STOP, 1, { code: 'No!', message: '' }],
    ['GOAWAY without last', GOAWAY, 0, { code: 'shutdown', message: '' }],
    ['GOAWAY with last above 2^32-1', GOAWAY, 0, { code: 'shutdown', message: '', last: 2 ** 32 }],
    ['SERVICES that is not a list', SERVICES, 0, { services: 'ssh' }],
    ['SERVICES with a bad name', SERVICES, 0, { services: ['a b'] }],
    ['SERVICES whose more is not a boolean', SERVICES, 0, { services: [], more: 1 }],
  ],
};

for (const [code, frames] of Object.entries(WRONG)) {
  for (const [what, type, id, payload, faults] of frames) {
    test(`${what} ends the session with ${code}, read in pieces of any size`, (t) => {
      for (const pieceBytes of [1, 5, 2 ** 20]) {
        const act = (peer: FramePeer) => {
          peer.sendOpen(1);
          peer.write(peer.frame(type, id, payload, faults), pieceBytes);
          t.deepEqual(peer.sinks.get(1)?.events, [`end ${code}`], 'nothing of it is handed on');
        };
        endsWith(t, code, act, { limits: { frame: 8192 } });
      }
    });
  }
}

/** How many bytes of stream 1 were handed on. */
const bytesOf = (peer: FramePeer): number => peer.sinks.get(1)?.bytes.length ?? -1;

for (const [integrity, fault] of [
  ['full', { crc: 7 }],
  ['frame', { trailer: 7 }],
] as const) {
  test(`R-INTEGRITY-3: no byte of DATA is handed on before it is verified; integrity ${integrity}`, (t) => {
    const act = (peer: FramePeer) => {
      peer.sendOpen(1);
      const right = peer.frame(DATA, 1, Buffer.alloc(5000, 7));
      peer.write(right.subarray(0, right.length - 1), 100);
      t.is(bytesOf(peer), 0);
      peer.write(right.subarray(right.length - 1));
      t.is(bytesOf(peer), 5000);
      peer.write(peer.frame(DATA, 1, Buffer.alloc(5000, 7), fault), 100);
      t.is(bytesOf(peer), 5000);
    };
    endsWith(t, 'desync', act, { integrity });
  });
}

test('R-INTEGRITY-2: in frame the CRC field of DATA is ignored, and the trailer counts towards no limit or credit', (t) => {
  const act = (peer: FramePeer) => {
    peer.sendOpen(1);
    peer.send(DATA, 1, text('hello'), { crc: 99 });
    peer.say('DATA 1 4096, DATA 1 4091');
    t.is(bytesOf(peer), 8192);
  };
  goesOn(t, act, { integrity: 'frame', limits: { frame: 4096, streamCredit: 8192, inFlight: 8192 } });
});

test('R-INTEGRITY-3: bytes lost, repeated or inserted within DATA end the session in frame, and none of it is handed on', (t) => {
  const payload = Buffer.from(Array.from({ length: 3000 }, (_, index) => index % 251));
  for (const [until, others, from] of [
    [100, 0, 101],
    // Up to the next frame.
    [100, 0, 3020],
    [500, 0, 400],
    [3000, 1, 3000],
  ] as const) {
    const act = (peer: FramePeer) => {
      peer.sendOpen(1);
      const frames = Buffer.concat([peer.frame(DATA, 1, payload), peer.frame(DATA, 1, payload)]);
      peer.write(Buffer.concat([frames.subarray(0, until), Buffer.alloc(others, 7), frames.subarray(from)]), 64);
      t.is(bytesOf(peer), 0);
    };
    endsWith(t, 'desync', act, { integrity: 'frame' });
  }
});

test('R-FRAME-5: unknown types 80 to FE are skipped, with any stream id, empty or as large as DATA', (t) => {
  for (const pieceBytes of [1, 2 ** 20]) {
    const act = (peer: FramePeer) => {
      for (let type = 0x80; type <= 0xfe; type += 1) peer.write(peer.frame(type, 77, text('new')), pieceBytes);
      peer.write(peer.frame(0x80, 0, Buffer.alloc(0), { crc: 5 }), pieceBytes);
      peer.write(peer.frame(0xfe, 0, Buffer.alloc(4096, 0xff)), pieceBytes);
    };
    goesOn(t, act, { limits: { frame: 4096 } });
  }
});

conversations({
  'R-FRAME-4: DATA as large as the limit, and control frames of 4096 bytes, are accepted': `
    given limits.frame=8192
    OPEN 1, DATA 1 8192, OPEN 3 ${'x'.repeat(4096 - '{"service":""}'.length)} -> ACCEPT 1, REFUSE 3 unknown-service
    1 is told data`,
});

test('R-FRAME-6: bytes that begin no frame are judged after 16 of them, a zero byte at once', (t) => {
  for (const first of [0xff, 0x01, 0x0c, 0x7f]) {
    const peer = goesOn(t, () => undefined);
    peer.write(Buffer.alloc(15, first).fill(1, 1));
    t.deepEqual(peer.endings, []);
    peer.write(Buffer.from([1]));
    t.is(peer.codes[0], 'desync', `${first}`);
  }
  endsWith(t, 'peer-restarted', (peer) => peer.write(Buffer.alloc(1)));
});

test('R-INTEGRITY-3: a frame completed by a flush, wherever it was cut, is a restart of the peer, and none of it is handed on', (t) => {
  for (const [integrity, cut, code] of [
    ...INTEGRITY_LEVELS.flatMap((level) => [17, 516, 1000].map((at) => [level, at, 'peer-restarted'] as const)),
    ['frame', 1016, 'peer-restarted'],
    // Within its trailer it is wrong.
    ...[1017, 1018, 1019].map((at) => ['frame', at, 'desync'] as const),
  ] as const) {
    const act = (peer: FramePeer) => {
      peer.sendOpen(1);
      const whole = peer.frame(DATA, 1, Buffer.alloc(1000, 0x5a), { trailer: 0x01_02_03_04 });
      peer.write(Buffer.concat([whole.subarray(0, cut), Buffer.alloc(131_088)]));
      t.deepEqual(peer.sinks.get(1)?.events, [`end ${code}`]);
    };
    endsWith(t, code, act, { integrity });
  }
});

test('R-INTEGRITY-4: a byte of DATA changed in place is detected in full, but not in frame', (t) => {
  const act = (peer: FramePeer) => {
    peer.sendOpen(1);
    const frame = peer.frame(DATA, 1, text('hello'));
    frame.write('j', 16);
    peer.write(frame);
    t.is(peer.sinks.get(1)?.bytes.toString(), peer.log.integrity === 'full' ? '' : 'jello');
  };
  endsWith(t, 'desync', act, { integrity: 'full' });
  goesOn(t, act, { integrity: 'frame' });
});
