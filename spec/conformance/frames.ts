import { crc32 } from 'node:zlib';
import test from 'ava';
import { FRAME_TYPE, INTEGRITY_LEVELS } from '../../lib/codec/header.js';
import type { FrameFaults } from '../helpers/frame-maker.js';
import type { FramePeer } from '../helpers/frame-peer.js';
import { endsWith, goesOn } from './ends-with.js';

const { AUTH, SERVICES, OPEN, ACCEPT, REFUSE, DATA, CREDIT, FIN, STOP, RESET, PING, PONG, GOAWAY } = FRAME_TYPE;
const { SECRET, RESUME, ACK } = FRAME_TYPE;

/** One frame, on stream 1 where the peer has opened it. */
interface Wrong {
  readonly what: string;
  readonly code: string;
  readonly type: number;
  readonly id: number;
  readonly payload?: Buffer | object;
  readonly faults?: FrameFaults;
}

const text = (value: string): Buffer => Buffer.from(value);

const WRONG: readonly Wrong[] = [
  // R-FRAME-2
  {
    what: 'a wrong check',
    code: 'desync',
    type: PING,
    id: 0,
    payload: Buffer.alloc(8),
    faults: { hasWrongCheck: true },
  },
  // R-FRAME-3
  { what: 'a sequence number that was used', code: 'desync', type: FIN, id: 1, faults: { sequence: 1 } },
  { what: 'a sequence number that was skipped', code: 'desync', type: FIN, id: 1, faults: { sequence: 3 } },
  { what: 'the sequence number of HELLO', code: 'desync', type: FIN, id: 1, faults: { sequence: 0 } },
  // R-INTEGRITY-1, R-INTEGRITY-2
  { what: 'DATA with a wrong CRC', code: 'desync', type: DATA, id: 1, payload: text('x'), faults: { crc: 1 } },
  { what: 'a control frame with a wrong CRC', code: 'desync', type: FIN, id: 1, faults: { crc: 1 } },
  // R-FRAME-5
  { what: 'type 12', code: 'protocol-error', type: 0x12, id: 0 },
  { what: 'type 7F', code: 'protocol-error', type: 0x7f, id: 0 },
  { what: 'a counted HELLO', code: 'protocol-error', type: 0x01, id: 0, payload: {} },
  { what: 'SECRET that was not agreed on', code: 'protocol-error', type: SECRET, id: 0, payload: Buffer.alloc(32) },
  { what: 'ACK that was not agreed on', code: 'protocol-error', type: ACK, id: 0, payload: Buffer.alloc(8) },
  { what: 'RESUME in a session', code: 'protocol-error', type: RESUME, id: 0, payload: Buffer.alloc(40) },
  { what: 'type 0F that is empty', code: 'protocol-error', type: 0x0f, id: 0 },
  { what: 'AUTH that nobody asked for', code: 'protocol-error', type: AUTH, id: 0, payload: Buffer.alloc(32) },
  { what: 'FF that begins no magic', code: 'desync', type: 0xff, id: 0 },
  { what: 'type 00', code: 'peer-restarted', type: 0x00, id: 0 },
  // R-FRAME-6: before the length, and whatever the type
  { what: 'a flag', code: 'protocol-error', type: FIN, id: 1, faults: { flags: 1 } },
  { what: 'a flag on an unknown type', code: 'protocol-error', type: 0x80, id: 0, faults: { flags: 0x80 } },
  // R-FRAME-4: on the header alone, the payload never comes
  { what: 'DATA above limits.frame', code: 'protocol-error', type: DATA, id: 1, faults: { length: 8193 } },
  { what: 'DATA of 4 GiB', code: 'protocol-error', type: DATA, id: 1, faults: { length: 0xffff_ffff } },
  { what: 'OPEN above 4096', code: 'protocol-error', type: OPEN, id: 3, faults: { length: 4097 } },
  { what: 'SERVICES of 4 GiB', code: 'protocol-error', type: SERVICES, id: 0, faults: { length: 0xffff_ffff } },
  { what: 'an unknown type above limits.frame', code: 'protocol-error', type: 0x80, id: 0, faults: { length: 8193 } },
  { what: 'empty DATA', code: 'protocol-error', type: DATA, id: 1 },
  // R-FRAME-8
  ...[OPEN, ACCEPT, REFUSE, DATA, FIN, STOP, RESET].map((type) => ({
    what: `type ${type} on stream 0`,
    code: 'protocol-error',
    type,
    id: 0,
    faults: { length: 2 },
  })),
  ...[AUTH, SERVICES, PING, PONG, GOAWAY, SECRET, RESUME, ACK].map((type) => ({
    what: `type ${type} on stream 1`,
    code: 'protocol-error',
    type,
    id: 1,
    faults: { length: 8 },
  })),
  // R-FRAME-7
  { what: 'ACCEPT with a payload', code: 'protocol-error', type: ACCEPT, id: 1, payload: text('x') },
  { what: 'FIN with a payload', code: 'protocol-error', type: FIN, id: 1, payload: text('x') },
  { what: 'CREDIT of 7 bytes', code: 'protocol-error', type: CREDIT, id: 1, payload: Buffer.alloc(7) },
  { what: 'CREDIT of 9 bytes', code: 'protocol-error', type: CREDIT, id: 0, payload: Buffer.alloc(9) },
  { what: 'PING of 7 bytes', code: 'protocol-error', type: PING, id: 0, payload: Buffer.alloc(7) },
  { what: 'PONG of 9 bytes', code: 'protocol-error', type: PONG, id: 0, payload: Buffer.alloc(9) },
  { what: 'an empty OPEN', code: 'protocol-error', type: OPEN, id: 3 },
  { what: 'OPEN that is a list', code: 'protocol-error', type: OPEN, id: 3, payload: ['echo'] },
  { what: 'OPEN without a service', code: 'protocol-error', type: OPEN, id: 3, payload: {} },
  { what: 'OPEN with a number as service', code: 'protocol-error', type: OPEN, id: 3, payload: { service: 7 } },
  { what: 'OPEN with a number as from', code: 'protocol-error', type: OPEN, id: 3, payload: { service: 'a', from: 7 } },
  {
    what: 'OPEN in invalid UTF-8',
    code: 'protocol-error',
    type: OPEN,
    id: 3,
    payload: Buffer.concat([text('{"service":"'), Buffer.from([0xc3, 0x28]), text('"}')]),
  },
  {
    what: 'OPEN behind a byte order mark',
    code: 'protocol-error',
    type: OPEN,
    id: 3,
    payload: text('\ufeff{"service":"a"}'),
  },
  { what: 'deep JSON', code: 'protocol-error', type: OPEN, id: 3, payload: text('['.repeat(4096)) },
  { what: 'RESET without a code', code: 'protocol-error', type: RESET, id: 1, payload: { message: '' } },
  { what: 'RESET without a message', code: 'protocol-error', type: RESET, id: 1, payload: { code: 'denied' } },
  {
    what: 'STOP with a code of other letters',
    code: 'protocol-error',
    type: STOP,
    id: 1,
    payload: { code: 'No!', message: '' },
  },
  {
    what: 'GOAWAY without last',
    code: 'protocol-error',
    type: GOAWAY,
    id: 0,
    payload: { code: 'shutdown', message: '' },
  },
  {
    what: 'GOAWAY with last above 2^32-1',
    code: 'protocol-error',
    type: GOAWAY,
    id: 0,
    payload: { code: 'shutdown', message: '', last: 2 ** 32 },
  },
  { what: 'SERVICES that is no list', code: 'protocol-error', type: SERVICES, id: 0, payload: { services: 'ssh' } },
  { what: 'SERVICES with a bad name', code: 'protocol-error', type: SERVICES, id: 0, payload: { services: ['a b'] } },
  {
    what: 'SERVICES whose more is no boolean',
    code: 'protocol-error',
    type: SERVICES,
    id: 0,
    payload: { services: [], more: 1 },
  },
];

for (const pieceBytes of [1, 5, 2 ** 20]) {
  for (const { what, code, type, id, payload, faults } of WRONG) {
    test(`${what} ends the session with ${code}, read in pieces of ${pieceBytes}`, (t) => {
      const act = (peer: FramePeer) => {
        peer.sendOpen(1);
        peer.write(peer.frame(type, id, payload, faults), pieceBytes);
      };
      endsWith(t, code, act, { limits: { frame: 8192 } });
    });
  }
}

test('a frame that is right but for its check does nothing', (t) => {
  const act = (peer: FramePeer) => {
    peer.sendOpen(1);
    peer.send(DATA, 1, text('lost'), { hasWrongCheck: true });
    t.deepEqual(peer.sinks.get(1)?.events, ['end desync']);
  };
  endsWith(t, 'desync', act);
});

for (const [integrity, fault] of [
  ['full', { crc: 7 }],
  ['frame', { trailer: 7 }],
] as const) {
  test(`R-INTEGRITY-3: no byte of DATA is handed on before it was found right; integrity ${integrity}`, (t) => {
    const act = (peer: FramePeer) => {
      peer.sendOpen(1);
      const right = peer.frame(DATA, 1, Buffer.alloc(5000, 7));
      peer.write(right.subarray(0, right.length - 1), 100);
      t.is(peer.sinks.get(1)?.bytes.length, 0);
      peer.write(right.subarray(right.length - 1));
      t.is(peer.sinks.get(1)?.bytes.length, 5000);
      const wrong = peer.frame(DATA, 1, Buffer.alloc(5000, 7), fault);
      peer.write(wrong, 100);
      t.is(peer.sinks.get(1)?.bytes.length, 5000);
    };
    endsWith(t, 'desync', act, { integrity });
  });
}

test('R-INTEGRITY-1: control frames have a CRC in frame, too', (t) => {
  endsWith(t, 'desync', (peer) => peer.send(PING, 0, Buffer.alloc(8, 1), { crc: 1 }), { integrity: 'frame' });
  endsWith(t, 'desync', (peer) => peer.send(PING, 0, Buffer.alloc(8, 1), { crc: 0 }), { integrity: 'frame' });
});

test('R-INTEGRITY-2: in frame the CRC field of DATA means nothing, and the trailer counts for no limit and no credit', (t) => {
  const act = (peer: FramePeer) => {
    peer.sendOpen(1);
    peer.send(DATA, 1, text('hello'), { crc: 99 });
    t.is(peer.sinks.get(1)?.bytes.toString(), 'hello');
    peer.sendData(1, Buffer.alloc(4096));
    peer.sendData(1, Buffer.alloc(8192 - 4096 - 5));
    t.is(peer.sinks.get(1)?.bytes.length, 8192);
  };
  goesOn(t, act, { integrity: 'frame', limits: { frame: 4096, streamCredit: 8192, inFlight: 8192 } });
});

test('R-INTEGRITY-2: the trailer is made of both nonces, the sender first, and of the sequence number', (t) => {
  const wrong: readonly ((peer: FramePeer) => number)[] = [
    (peer) => crc32(peer.otherNonce + peer.nonce) ^ peer.sequence,
    (peer) => crc32(peer.nonce + peer.otherNonce) ^ (peer.sequence - 1),
    (peer) => crc32(peer.nonce + peer.otherNonce) ^ (peer.sequence + 1),
    (peer) => crc32(peer.nonce) ^ peer.sequence,
  ];
  const act = (trailer: (peer: FramePeer) => number) => (peer: FramePeer) => {
    peer.sendOpen(1);
    peer.send(DATA, 1, text('hello'), { trailer: trailer(peer) >>> 0 });
  };
  goesOn(
    t,
    act((peer) => crc32(peer.nonce + peer.otherNonce) ^ peer.sequence),
    { integrity: 'frame' },
  );
  for (const trailer of wrong) endsWith(t, 'desync', act(trailer), { integrity: 'frame' });
});

test('R-INTEGRITY-3: bytes that were lost, repeated or put in within DATA end the session in frame, and nothing of it is handed on', (t) => {
  const payload = Buffer.from(Array.from({ length: 3000 }, (_, index) => index % 251));
  const changes: Readonly<Record<string, (bytes: Buffer) => Buffer>> = {
    lost: (bytes) => Buffer.concat([bytes.subarray(0, 100), bytes.subarray(101)]),
    'lost up to the next frame': (bytes) => Buffer.concat([bytes.subarray(0, 100), bytes.subarray(3020)]),
    repeated: (bytes) => Buffer.concat([bytes.subarray(0, 500), bytes.subarray(400)]),
    'put in': (bytes) => Buffer.concat([bytes.subarray(0, 3000), Buffer.alloc(1, 7), bytes.subarray(3000)]),
  };
  for (const change of Object.values(changes)) {
    const act = (peer: FramePeer) => {
      peer.sendOpen(1);
      const frames = Buffer.concat([peer.frame(DATA, 1, payload), peer.frame(DATA, 1, payload)]);
      peer.write(change(frames), 64);
      t.is(peer.sinks.get(1)?.bytes.length, 0);
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

test('R-FRAME-4: DATA as large as the limit, and control frames of 4096 bytes, are taken', (t) => {
  const act = (peer: FramePeer) => {
    const service = 'x'.repeat(4096 - '{"service":""}'.length);
    peer.sendOpen(1);
    peer.sendData(1, Buffer.alloc(8192, 1));
    peer.sendOpen(3, service);
    t.is(peer.sinks.get(1)?.bytes.length, 8192);
  };
  const peer = goesOn(t, act, { limits: { frame: 8192 } });
  t.deepEqual(peer.takeTexts(), ['ACCEPT 1', 'REFUSE 3 unknown-service']);
});

test('R-FRAME-6: what begins no frame is judged when 16 bytes of it have come, a zero byte at once', (t) => {
  for (const first of [0xff, 0x01, 0x0c, 0x7f]) {
    const peer = goesOn(t, () => undefined);
    peer.write(Buffer.alloc(15, first).fill(1, 1));
    t.deepEqual(peer.endings, []);
    peer.write(Buffer.from([1]));
    t.is(peer.endings[0]?.code, 'desync', `${first}`);
  }
  endsWith(t, 'peer-restarted', (peer) => peer.write(Buffer.alloc(1)));
});

test('R-FRAME-6: the check is judged before the flags, and the flags before the length', (t) => {
  endsWith(t, 'desync', (peer) => peer.send(FIN, 1, undefined, { flags: 1, hasWrongCheck: true }));
  const act = (peer: FramePeer) => peer.send(0x7f, 5, undefined, { flags: 3, length: 2 ** 31 });
  const peer = endsWithMessage(t, act);
  t.regex(peer, /flags/);
});

function endsWithMessage(t: Parameters<typeof endsWith>[0], act: (peer: FramePeer) => void): string {
  let message = '';
  endsWith(t, 'protocol-error', (peer) => {
    act(peer);
    message = peer.endings[0]?.message ?? '';
  });
  return message;
}

test('every frame in every split means the same', (t) => {
  for (let at = 1; at < 60; at += 1) {
    const act = (peer: FramePeer) => {
      const bytes = Buffer.concat([
        peer.frame(OPEN, 1, { service: 'echo' }),
        peer.frame(DATA, 1, text('hello')),
        peer.frame(FIN, 1),
      ]);
      peer.write(bytes.subarray(0, at));
      peer.write(bytes.subarray(at));
      t.deepEqual(
        peer.sinks.get(1)?.events.filter((event) => event !== 'data'),
        ['fin'],
      );
      t.is(peer.sinks.get(1)?.bytes.toString(), 'hello');
    };
    goesOn(t, act, { integrity: at % 2 === 0 ? 'full' : 'frame' });
  }
});

for (const integrity of INTEGRITY_LEVELS) {
  test(`R-INTEGRITY-3: a frame that a flush completed, wherever it was cut, is a restart of the peer and nothing of it is handed on; integrity ${integrity}`, (t) => {
    const payload = Buffer.alloc(1000, 0x5a);
    for (const cut of [1, 500, payload.length - 16]) {
      const act = (peer: FramePeer) => {
        peer.sendOpen(1);
        const whole = peer.frame(DATA, 1, payload);
        peer.write(Buffer.concat([whole.subarray(0, 16 + cut), Buffer.alloc(131_088)]));
        t.deepEqual(peer.sinks.get(1)?.events, ['end peer-restarted']);
      };
      endsWith(t, 'peer-restarted', act, { integrity });
    }
  });
}

test('R-INTEGRITY-4: a byte of DATA that is changed in place shows in full, and not in frame', (t) => {
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

test('R-INTEGRITY-3: in frame a flush that completes DATA within its trailer shows, too', (t) => {
  for (const cut of [1, 2, 3, 4]) {
    const act = (peer: FramePeer) => {
      peer.sendOpen(1);
      const whole = peer.frame(DATA, 1, Buffer.alloc(1000, 0x5a), { trailer: 0x01_02_03_04 });
      peer.write(Buffer.concat([whole.subarray(0, whole.length - cut), Buffer.alloc(131_088)]));
      t.is(peer.sinks.get(1)?.bytes.length, 0);
    };
    endsWith(t, cut === 4 ? 'peer-restarted' : 'desync', act, { integrity: 'frame' });
  }
});
