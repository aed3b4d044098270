/** R-AUTH-1 and R-AUTH-2: peers that have the key, and peers that only claim it. */
import { createHash } from 'node:crypto';
import { inspect } from 'node:util';
import test from 'ava';
import { hmacOf } from '../../conformance/frame-maker.js';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { SecretKey } from '../../lib/session/opening/auth.js';
import { FramePeer } from '../helpers/frame-peer.js';
import { SessionPair } from '../helpers/session-pair.js';

const { AUTH } = FRAME_TYPE;
const TEXTS = ['1f'.repeat(32), '2e'.repeat(32), '3d'.repeat(32)] as const;
const [ONE, TWO, THREE] = TEXTS.map((text) => SecretKey.parse(`${text}\n`)) as [SecretKey, SecretKey, SecretKey];

/** The expected AUTH, derived from the text of the protocol alone. */
const authOf = (sender: Buffer, receiver: Buffer, keyText: string = TEXTS[0]): Buffer =>
  hmacOf(Buffer.from(keyText, 'hex'), [Buffer.from('vproxy-auth-v1'), sender, receiver]);

/** A peer that has answered with these keys, and the payloads of both establishing HELLOs. */
function answered(
  peerKeys: readonly string[] | null = [ONE.id],
  keys: readonly SecretKey[] = [ONE],
  text = (hello: object) => JSON.stringify(hello),
) {
  const peer = FramePeer.opening({ settings: { keys: () => keys } });
  const auth = peerKeys === null ? null : { method: 'psk-sha256', keys: peerKeys };
  const own = Buffer.from(text({ ...peer.helloFields, ack: peer.otherNonce, auth }));
  peer.write(peer.rawHello(own));
  const [frame, ...rest] = peer.log.take();
  const send = (payload: Buffer): void => peer.send(AUTH, 0, payload);
  return { peer, own, other: peer.log.helloPayload, frame, rest, send };
}

type Answered = ReturnType<typeof answered>;

test('R-AUTH-2: the id of a key is the start of its SHA-256, and nothing reveals the key', (t) => {
  t.is(ONE.id, createHash('sha256').update(Buffer.from(TEXTS[0], 'hex')).digest('hex').slice(0, 8));
  for (const shown of [inspect(ONE, { showHidden: true, depth: 9 }), JSON.stringify({ ONE })]) {
    t.false(shown.includes(TEXTS[0].slice(0, 8)), shown);
  }
  const [hex] = TEXTS;
  for (const text of ['', 'x', hex.slice(2), `${hex}1f`, `${hex}\n\n`, ` ${hex}`, 'zz'.repeat(32)]) {
    const error = t.throws(() => SecretKey.parse(text), { code: 'bad-file' }, JSON.stringify(text));
    t.true(text.length < 3 || !error.message.includes(text));
  }
});

test('R-AUTH-2: a peer with the key is admitted after its AUTH, which binds both HELLOs byte for byte; before that only AUTH is sent', (t) => {
  for (const text of [
    undefined,
    (hello: object) =>
      `  ${JSON.stringify({ future: [1, 2], ...hello, auth: { keys: [ONE.id], more: 1, method: 'psk-sha256' } }, null, 1)} `,
  ]) {
    const { peer, own, other, frame, rest, send } = answered([ONE.id], [ONE], text);
    t.deepEqual([frame?.type, frame?.payload, rest], [AUTH, authOf(other, own), []]);
    t.is(peer.sessions.length, 0, 'nothing of a session exists');
    send(authOf(own, other));
    t.is(peer.sessions.length, 1);
    t.regex(peer.takeTexts().join(), /SERVICES 0.*PING 0/);
  }
});

for (const [what, make] of [
  ['another key', ({ own, other }) => authOf(own, other, TEXTS[1])],
  ['its own AUTH sent back', ({ own, other }) => authOf(other, own)],
  ['an AUTH of an earlier session', ({ other }) => authOf(Buffer.from('earlier'), other)],
] satisfies [string, (hellos: Answered) => Buffer][]) {
  test(`R-AUTH-2: ${what} is auth-failed`, (t) => {
    const hellos = answered();
    hellos.send(make(hellos));
    t.deepEqual([hellos.peer.sessions.length, ...hellos.peer.codes], [0, 'auth-failed']);
    t.deepEqual(hellos.peer.takeTexts(), ['GOAWAY 0 auth-failed']);
  });
}

test('R-AUTH-2: without a key that the other side has, also since its HELLO, there is a GOAWAY and nothing else', (t) => {
  const keys: SecretKey[] = [];
  const late = (hello: object) => (keys.push(ONE), JSON.stringify(hello));
  for (const { peer, frame, rest } of [answered([ONE.id], []), answered(null, keys, late)])
    t.deepEqual([frame?.name, rest, peer.codes[0], peer.sessions.length], ['GOAWAY', [], 'auth-failed', 0]);
});

test('R-AUTH-2: a peer that sends no AUTH within 10 s is auth-failed', (t) => {
  const { peer } = answered();
  peer.advance(9999);
  t.deepEqual(peer.endings, []);
  peer.advance(1);
  t.is(peer.codes[0], 'auth-failed');
});

test('R-AUTH-2: two sides with a key in common, found in any order, have a session on every attempt', (t) => {
  const pair = new SessionPair({ settings: { keys: () => [ONE, TWO] }, settingsOfB: { keys: () => [THREE, TWO] } });
  const counts = (): number[] => pair.sides.map(({ sessions }) => sessions.length);
  pair.establish();
  t.deepEqual(counts(), [1, 1]);
  pair.b.restart();
  for (let second = 0; second < 10; second += 1) {
    pair.settle();
    pair.clock.advance(1000);
  }
  pair.settle();
  t.deepEqual(counts(), [2, 2]);
});
