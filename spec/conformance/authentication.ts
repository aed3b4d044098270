/** R-AUTH-1 and R-AUTH-2: peers that have the key, and peers that only claim it. */
import { createHash } from 'node:crypto';
import { inspect } from 'node:util';
import test from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { SecretKey } from '../../lib/session/opening/auth.js';
import { FramePeer } from '../helpers/frame-peer.js';
import { hmacOf } from '../helpers/resuming-peer.js';
import { SessionPair } from '../helpers/session-pair.js';

const TEXTS = ['1f'.repeat(32), '2e'.repeat(32), '3d'.repeat(32)] as const;
const [ONE, TWO, THREE] = TEXTS.map((text) => SecretKey.parse(`${text}\n`)) as [SecretKey, SecretKey, SecretKey];

/** What AUTH has to be, made from the words of the protocol alone. */
const authOf = (keyText: string, sender: Buffer, receiver: Buffer): Buffer =>
  hmacOf(Buffer.from(keyText, 'hex'), [Buffer.from('vproxy-auth-v1'), sender, receiver]);

/** A peer that has answered with these keys, and the payloads of both establishing HELLOs. */
function answered(keys: readonly SecretKey[], peerKeys: readonly string[] | null, options: { isOdd?: boolean } = {}) {
  const peer = FramePeer.opening({ ...options, settings: { keys: () => keys } });
  const auth = peerKeys === null ? null : { method: 'psk-sha256', keys: peerKeys };
  const own = Buffer.from(JSON.stringify({ ...peer.helloFields, ack: peer.otherNonce, auth }));
  peer.write(peer.rawHello(own));
  return { peer, own, other: peer.log.helloPayload };
}

test('R-AUTH-2: the id of a key is the beginning of its SHA-256, and nothing shows the key', (t) => {
  t.is(ONE.id, createHash('sha256').update(Buffer.from(TEXTS[0], 'hex')).digest('hex').slice(0, 8));
  for (const shown of [inspect(ONE, { showHidden: true, depth: 9 }), JSON.stringify({ ONE })]) {
    t.false(shown.includes(TEXTS[0].slice(0, 8)), shown);
  }
});

test('R-AUTH-2: what is no key is refused, and not shown', (t) => {
  const [hex] = TEXTS;
  for (const text of ['', 'x', hex.slice(2), `${hex}1f`, `${hex}\n\n`, ` ${hex}`, 'zz'.repeat(32)]) {
    const error = t.throws(() => SecretKey.parse(text), { code: 'bad-file' }, JSON.stringify(text));
    t.true(text.length < 3 || !error.message.includes(text));
  }
});

test('R-AUTH-2: a peer that has the key is let in after its AUTH, and before it nothing but AUTH is sent', (t) => {
  const { peer, own, other } = answered([ONE], [ONE.id]);
  const [auth, ...rest] = peer.log.take();
  t.deepEqual(rest, []);
  t.is(auth?.type, FRAME_TYPE.AUTH);
  t.deepEqual(auth?.payload, authOf(TEXTS[0], other, own));
  t.is(peer.sessions.length, 0, 'nothing of a session exists');
  peer.send(FRAME_TYPE.AUTH, 0, authOf(TEXTS[0], own, other));
  t.is(peer.sessions.length, 1);
  t.regex(peer.takeTexts().join(), /SERVICES 0.*PING 0/);
});

test('R-AUTH-2: AUTH binds both HELLOs byte for byte, whatever order or unknown fields the peer writes', (t) => {
  const peer = FramePeer.opening({ settings: { keys: () => [ONE] } });
  const fields = {
    future: [1, 2],
    ...peer.helloFields,
    ack: peer.otherNonce,
    auth: { keys: [ONE.id], more: 1, method: 'psk-sha256' },
  };
  const own = Buffer.from(`  ${JSON.stringify(fields, null, 1)} `);
  peer.write(peer.rawHello(own));
  peer.send(FRAME_TYPE.AUTH, 0, authOf(TEXTS[0], own, peer.log.helloPayload));
  t.is(peer.sessions.length, 1);
});

test('R-AUTH-2: of several keys it is the first of the side with the greater nonce that the other has too', (t) => {
  for (const isOdd of [true, false]) {
    const { peer, own, other } = answered([ONE, TWO, THREE], [THREE.id, TWO.id], { isOdd });
    const text = isOdd ? TEXTS[2] : TEXTS[1];
    t.deepEqual(peer.log.take()[0]?.payload, authOf(text, other, own));
    peer.send(FRAME_TYPE.AUTH, 0, authOf(text, own, other));
    t.is(peer.sessions.length, 1);
  }
});

for (const [what, make] of Object.entries({
  'another key': ({ own, other }: Hellos) => authOf(TEXTS[1], own, other),
  'its own AUTH sent back': ({ own, other }: Hellos) => authOf(TEXTS[0], other, own),
  'an AUTH of an earlier session': ({ other }: Hellos) => authOf(TEXTS[0], Buffer.from('earlier'), other),
  'an AUTH that is too short': ({ own, other }: Hellos) => authOf(TEXTS[0], own, other).subarray(0, 31),
  'an empty AUTH': () => Buffer.alloc(0),
})) {
  test(`R-AUTH-2: ${what} is auth-failed`, (t) => {
    const hellos = answered([ONE], [ONE.id]);
    hellos.peer.log.take();
    hellos.peer.send(FRAME_TYPE.AUTH, 0, make(hellos));
    t.deepEqual(hellos.peer.takeTexts(), ['GOAWAY 0 auth-failed']);
    t.is(hellos.peer.sessions.length, 0);
    t.is(hellos.peer.codes[0], 'auth-failed');
  });
}

interface Hellos {
  readonly own: Buffer;
  readonly other: Buffer;
}

for (const [what, keys, peerKeys] of [
  ['a peer without a key', [ONE], null],
  ['a peer with another key', [ONE], [TWO.id]],
  ['a peer that demands a key of a side that has none', [], [ONE.id]],
] as const) {
  test(`R-AUTH-2: ${what} gets a GOAWAY and nothing else`, (t) => {
    const { peer } = answered(keys, peerKeys);
    t.deepEqual(peer.takeTexts(), ['GOAWAY 0 auth-failed']);
    t.is(peer.sessions.length, 0);
  });
}

for (const [what, type, payload, id = 0] of [
  ['an OPEN', FRAME_TYPE.OPEN, { service: 'echo' }, 1],
  ['an OPEN without sense', FRAME_TYPE.OPEN, Buffer.alloc(1), 1],
  ['DATA', FRAME_TYPE.DATA, Buffer.from('x'), 1],
  ['a PING', FRAME_TYPE.PING, Buffer.alloc(8)],
  ['SERVICES', FRAME_TYPE.SERVICES, { services: [] }],
  ['SECRET', FRAME_TYPE.SECRET, Buffer.alloc(32)],
] as const) {
  test(`R-AUTH-2: ${what} before AUTH is a protocol error`, (t) => {
    const { peer } = answered([ONE], [ONE.id]);
    peer.log.take();
    peer.send(type, id, payload);
    t.deepEqual(peer.takeTexts(), ['GOAWAY 0 protocol-error']);
  });
}

test('R-AUTH-2: types that are skipped may come before AUTH, a second one is a protocol error, and GOAWAY ends the session', (t) => {
  const { peer, own, other } = answered([ONE], [ONE.id]);
  for (const type of [0x80, 0xfe]) peer.send(type, 7, Buffer.alloc(100));
  peer.send(FRAME_TYPE.AUTH, 0, authOf(TEXTS[0], own, other));
  t.is(peer.sessions.length, 1);
  peer.log.take();
  peer.send(FRAME_TYPE.AUTH, 0, authOf(TEXTS[0], own, other));
  t.regex(peer.takeTexts().join(), /GOAWAY 0 protocol-error/);

  const left = answered([ONE], [ONE.id]).peer;
  left.send(FRAME_TYPE.GOAWAY, 0, { code: 'auth-failed', message: 'no', last: 0 });
  t.is(left.codes[0], 'auth-failed');
});

test('R-AUTH-2: a peer that sends no AUTH within 10 s is auth-failed', (t) => {
  const { peer } = answered([ONE], [ONE.id]);
  t.regex(peer.takeTexts().join(), /^AUTH 0/);
  peer.advance(9999);
  t.deepEqual(peer.endings, []);
  peer.advance(1);
  t.is(peer.codes[0], 'auth-failed');
});

test('R-AUTH-2: a changed byte in AUTH shows in frame, too', (t) => {
  const { peer, own, other } = answered([ONE], [ONE.id]);
  peer.log.take();
  const auth = authOf(TEXTS[0], own, other);
  peer.send(FRAME_TYPE.AUTH, 0, auth, { crc: 1 });
  t.is(peer.sessions.length, 0);
  t.is(peer.codes[0], 'desync');
});

test('R-AUTH-2: two sides with a key in common, found in any order, have a session on every attempt', (t) => {
  const pair = new SessionPair({ settings: { keys: () => [ONE, TWO] }, settingsOfB: { keys: () => [THREE, TWO] } });
  const counts = (): number[] => pair.sides.map(({ sessions }) => sessions.length);
  pair.establish();
  t.deepEqual(counts(), [1, 1]);
  pair.b.restart();
  for (let s = 0; s < 10; s += 1) {
    pair.settle();
    pair.clock.advance(1000);
  }
  pair.settle();
  t.deepEqual(counts(), [2, 2]);
});

test('R-OPEN-12: after a wrong key it tries again ever more seldom, and gets in when the peer has the right one', (t) => {
  const pair = new SessionPair({ settings: { keys: () => [ONE] }, settingsOfB: { keys: () => [TWO] } });
  pair.establish();
  t.is(pair.a.sessions.length, 0);
  for (let s = 0; s < 300; s += 1) {
    pair.clock.advance(1000);
    pair.settle();
  }
  t.is(pair.a.sessions.length + pair.b.sessions.length, 0);
  t.true(pair.a.endings.every(({ code }) => code === 'auth-failed'));
  t.true(pair.a.endings.length < 40, `${pair.a.endings.length} attempts in five minutes`);
});
