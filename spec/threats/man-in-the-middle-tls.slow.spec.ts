/** R-AUTH-3: what a man in the middle does around, in and after TLS. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { encodeFrame, FRAME_TYPE } from '../../lib/codec/header.js';
import { SecretKey } from '../../lib/session/opening/auth.js';
import { makeCertificate } from '../helpers/certificates.js';
import { localSocket, readToEnd } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { helloOf, splitOpening } from './hello-editor.js';
import { type Attack, BOTH_WAYS } from './middle.js';
import {
  assertComesBack,
  assertRefused,
  echoThrough,
  endCodes,
  type Protection,
  type Scene,
  sessionCount,
  startScene,
} from './scene.js';
import { firstRecord, type TlsDisguise, TlsMiddle } from './tls-middle.js';

const TLS: readonly Protection[] = ['tls=psk', 'tls=cert'];

const { id } = SecretKey.parse('1f'.repeat(32));
const psk = Buffer.from('2e'.repeat(32), 'hex');
const COMMON = { minVersion: 'TLSv1.3', ciphers: 'TLS_AES_128_GCM_SHA256' } as const;

/** A certificate that neither side trusts. */
function strangerIn(folder: string) {
  makeCertificate(folder, 'stranger');
  const read = (file: string) => readFileSync(join(folder, file), 'utf8');
  return { cert: read('stranger.pem'), key: read('stranger.key') };
}

const DISGUISES: readonly [what: string, how: Protection, make: (folder: string) => TlsDisguise][] = [
  [
    'another key under the name of the right one',
    'tls=psk',
    () => ({
      asServer: { ...COMMON, pskCallback: () => psk },
      asClient: {
        ...COMMON,
        pskCallback: () => ({ psk, identity: id }),
        checkServerIdentity: () => undefined,
      },
    }),
  ],
  [
    'a certificate instead of a key',
    'tls=psk',
    (folder) => ({ asServer: { ...COMMON, ...strangerIn(folder) }, asClient: { ...COMMON, ...strangerIn(folder) } }),
  ],
  [
    'a certificate of another authority',
    'tls=cert',
    (folder) => ({ asServer: { ...COMMON, ...strangerIn(folder) }, asClient: { ...COMMON, ...strangerIn(folder) } }),
  ],
  [
    'no certificate where he is the client',
    'tls=cert',
    (folder) => ({ asServer: { ...COMMON, ...strangerIn(folder) }, asClient: COMMON }),
  ],
];

for (const [what, how, make] of DISGUISES) {
  test(`${how}: a man in the middle who ends TLS himself with ${what} is let in by neither side`, async (t) => {
    const scene = await startScene(t, how);
    const { host, guest, middle } = scene;
    const attacker = new TlsMiddle(make(scene.folder));
    middle.attack(attacker.attack);
    await guest.start();
    const isOver = () => attacker.begun > 0 && [host, guest].every((side) => endCodes(side).length > 0);
    await eventually(isOver, { what: 'the end of both handshakes' });
    assertRefused(t, scene);
    t.deepEqual(attacker.read, [], 'something was said to the attacker');
    t.true([host, guest].some((side) => endCodes(side).includes('auth-failed')));
    await assertComesBack(t, scene);
  });
}

const CLEAR_HELLO = {
  ...{ version: { min: 1, max: 1 }, nonce: '7'.repeat(32), ack: null, instance: '8'.repeat(32), integrity: 'full' },
  limits: { frame: 131_072, streamCredit: 65_536, inFlight: 1_048_576, streams: 1024, opens: 256 },
};

/** Frames of a session in clear, as one without TLS begins. */
const openInClear = (streamId: number): Buffer =>
  Buffer.concat([
    encodeFrame(FRAME_TYPE.SERVICES, 0, Buffer.from('{"services":[]}'), 1),
    encodeFrame(FRAME_TYPE.OPEN, streamId, Buffer.from('{"service":"echo"}'), 2),
    encodeFrame(FRAME_TYPE.DATA, streamId, Buffer.from('forged'), 3),
  ]);

const OPENS = Buffer.concat([openInClear(1), openInClear(2)]);

const HALF_MAGIC = 'half of a magic';

/** What is put between the bytes of a side, in clear. */
const INSERTIONS: readonly [what: string, bytes: () => Buffer][] = [
  ['frames', () => OPENS],
  ['a flush', () => Buffer.alloc(131_088)],
  ['a HELLO of another process, and frames', () => Buffer.concat([helloOf(CLEAR_HELLO), OPENS])],
  ['a record that TLS did not make', () => Buffer.from('1703030013' + 'ab'.repeat(19), 'hex')],
  ['an alert', () => Buffer.from('15030300020100', 'hex')],
  [HALF_MAGIC, () => Buffer.from('ff005650', 'hex')],
];

type Change = (records: Buffer, other: Buffer) => Buffer;

const CHANGES: readonly (readonly [what: string, change: Change])[] = [
  [
    'a flipped bit',
    (records) => {
      records[records.length - 3] = (records.at(-3) ?? 0) ^ 1;
      return records;
    },
  ],
  ['a record that comes twice', (records) => Buffer.concat([records, records])],
  ['a record that is lost', () => Buffer.alloc(0)],
  ['a record of the other way', (_records, other) => other],
];

for (const how of TLS) {
  for (const [what, bytes] of INSERTIONS) {
    for (const where of ['before', 'behind'] as const) {
      test(`${how}: ${what} in clear, right ${where} the first record, brings no session and no stream`, async (t) => {
        const scene = await startScene(t, how);
        const { host, guest, middle } = scene;
        middle.attack(besideFirstRecord(where, bytes()));
        await guest.start();
        await eventually(() => [host, guest].some((side) => endCodes(side).length > 0), { what: 'an end' });
        assertRefused(t, scene);
        await assertComesBack(t, scene);
      });
    }
    // The side waits for the rest of what may become a HELLO.
    if (what === HALF_MAGIC) continue;

    test(`${how}: ${what} in clear, in a session, ends it, and nothing of it is taken for the peer’s`, async (t) => {
      const scene = await startScene(t, how);
      await establish(scene);
      t.is(await echoThrough(t, scene, 'mine'), 'mine');
      for (const way of BOTH_WAYS) scene.middle.newest.inject(way, bytes());
      await eventually(() => [scene.host, scene.guest].every((side) => endCodes(side).length > 0), { what: 'the end' });
      t.is(scene.reached.length, 1);
      await assertComesBack(t, scene);
      t.is(scene.reached.length, 2);
    });
  }

  test(`${how}: a session in clear, on the connection on which one inside TLS has ended, is refused`, async (t) => {
    const scene = await startScene(t, how);
    await establish(scene);
    const { host, middle, reached } = scene;
    const crossing = middle.newest;
    crossing.end('to-guest').removeAllListeners('data');
    crossing.end('to-host').on('data', () => {
      const { last } = splitOpening(crossing.all('to-guest'));
      const nonce = last['nonce'];
      if (nonce === answered || endCodes(host).length === 0) return;
      answered = nonce;
      crossing.inject('to-host', Buffer.concat([helloOf({ ...CLEAR_HELLO, ack: nonce }), OPENS]));
    });
    let answered: unknown = null;
    crossing.inject('to-host', Buffer.alloc(131_088));
    await eventually(() => endCodes(host).includes('auth-failed'), { what: 'auth-failed' });
    t.deepEqual(reached, []);
    await assertComesBack(t, scene);
  });

  for (const [what, change] of CHANGES) {
    test(`${how}: ${what} suspends a session that outlives its link, and nothing is lost`, async (t) => {
      const scene = await startScene(t, how, { canResume: true });
      const { host, guest, middle } = scene;
      const attack = changeNext(change);
      middle.attack(attack.attack);
      await establish(scene);
      const socket = localSocket(t, { host: '127.0.0.1', port: guest.port('echo') });
      const answer = readToEnd(socket);
      socket.write(SENT);
      await eventually(() => Buffer.concat(scene.reached.flat()).equals(SENT));
      attack.arm();
      socket.end(SENT);
      t.true((await answer).equals(Buffer.concat([SENT, SENT])));
      for (const side of [host, guest])
        t.true((await side.event('session-resumed')).fields['againBytes'] !== undefined);
      for (const side of [host, guest]) t.deepEqual([endCodes(side), sessionCount(side)], [[], 1]);
    });
  }
}

/** Changes what goes to the host next, once it is armed. */
function changeNext(change: Change): { readonly attack: Attack; readonly arm: () => void } {
  let isArmed = false;
  let lastBack: Buffer = Buffer.alloc(0);
  return {
    arm: () => {
      isArmed = true;
    },
    attack: () => (bytes, way) => {
      if (way === 'to-guest') lastBack = bytes;
      if (!isArmed || way !== 'to-host') return bytes;
      isArmed = false;
      return change(Buffer.from(bytes), lastBack);
    },
  };
}

const SENT = Buffer.from(Array.from({ length: 5000 }, (_, index) => `${index} `).join(''));

/** Inserts bytes before or after the first record of the side that begins. */
function besideFirstRecord(where: 'before' | 'behind', bytes: Buffer): Attack {
  return () => {
    let isDone = false;
    return (chunk, way, crossing) => {
      const first = isDone ? null : firstRecord(crossing, way);
      if (first === null || first.length > chunk.length) return chunk;
      isDone = true;
      const at = where === 'before' ? chunk.length - first.length : chunk.length;
      return Buffer.concat([chunk.subarray(0, at), bytes, chunk.subarray(at)]);
    };
  };
}

async function establish({ host, guest }: Scene): Promise<void> {
  await guest.start();
  await Promise.all([host.event('session-established'), guest.event('session-established')]);
}
