/** R-AUTH-3, R-RESUME-1: sessions inside TLS, in memory: what passes, what a man in the middle can do, and sessions that outlive a link. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { VproxyError } from '../../lib/errors.js';
import { tlsWithCertificates, tlsWithKeys } from '../../lib/link/tls-layer.js';
import { MuxStream } from '../../lib/session/mux-stream.js';
import { SecretKey } from '../../lib/session/opening/auth.js';
import type { SessionSettings } from '../../lib/session/settings.js';
import { makeCertificate } from '../helpers/certificates.js';
import { temporaryFolder } from '../helpers/files.js';
import { carryOn, carryUntil, SessionPair, type Side } from '../helpers/session-pair.js';
import { eventually } from '../helpers/time.js';
import { ResumePair } from './resume-pair.js';

const [ONE, TWO] = ['1f', '2e'].map((digits) => SecretKey.parse(digits.repeat(32))) as [SecretKey, SecretKey];

/** A name that no 600 kB of random bytes hold by chance: one of four bytes is in them once in 7,000 times. */
const ECHO = 'a-service-nobody-sees';

const withKey = (key: SecretKey): Partial<SessionSettings> => ({ keys: () => [key], secure: tlsWithKeys(() => [key]) });

/** A pair that has carried bytes until both sides were at rest. */
async function started(
  settings: Partial<SessionSettings>,
  settingsOfB: Partial<SessionSettings> = settings,
  capacityBytes = 2 ** 20,
): Promise<SessionPair> {
  const pair = new SessionPair({ settings, capacityBytes, settingsOfB });
  pair.b.services = [ECHO];
  pair.b.onSession = (session) =>
    (session.server = {
      serve: (stream) => {
        const mux = MuxStream.accept(session, stream);
        mux.on('error', () => undefined);
        mux.pipe(mux);
      },
    });
  pair.start();
  // When one side ends TLS, the other may notice only at the next handshake.
  const look = () => {
    pair.clock.advance(100);
    return pair.sides.every(({ sessions, endings }) => sessions.length + endings.length > 0);
  };
  await carryUntil(pair, eventually(look));
  return pair;
}

async function pass(pair: SessionPair, seconds: number): Promise<void> {
  for (let second = 0; second < seconds; second += 1) {
    await carryOn(pair);
    pair.clock.advance(1000);
  }
  await carryOn(pair);
}

/** A stream of `a` to the echo service, on which these bytes are sent. */
function openEcho(pair: SessionPair, bytes: Buffer): MuxStream {
  const stream = MuxStream.open(pair.a.session, ECHO);
  stream.on('error', () => undefined).resume();
  stream.write(bytes);
  return stream;
}

async function echoes(t: ExecutionContext, pair: SessionPair, bytes = Buffer.from('again')): Promise<void> {
  const chunks: Buffer[] = [];
  const stream = openEcho(pair, bytes).on('data', (chunk: Buffer) => chunks.push(chunk));
  stream.end();
  await carryUntil(pair, new Promise((resolve) => stream.once('end', resolve)));
  t.true(Buffer.concat(chunks).equals(bytes));
}

const countsOf = ({ sides }: SessionPair): number[] => sides.map(({ sessions }) => sessions.length);

function watch(pair: SessionPair): Buffer[] {
  const seen: Buffer[] = [];
  for (const side of pair.sides) side.tap = (bytes) => void seen.push(Buffer.from(bytes));
  return seen;
}

test('a session inside TLS with a common key carries bytes, none of them visible on the channel', async (t) => {
  const pair = await started(withKey(ONE));
  t.deepEqual(countsOf(pair), [1, 1]);
  const seen = watch(pair);
  const secret = Buffer.alloc(300_000, 'a secret that nobody sees ');
  await echoes(t, pair, secret);
  t.true(Buffer.concat(seen).length > 2 * secret.length);
  for (const word of ['a secret that nobody sees', ECHO]) t.false(Buffer.concat(seen).includes(word));
});

for (const [what, code, whose, act] of [
  ['is lost with a process', 'peer-restarted', 'a', ({ b }) => b.restart()],
  ['is ended, and says why before,', 'flood', 'b', ({ a }) => a.session.end(new VproxyError('flood', 'too much'))],
] satisfies [string, string, 'a' | 'b', (pair: SessionPair) => void][]) {
  test(`a session inside TLS that ${what} is followed by another one`, async (t) => {
    const pair = await started(withKey(ONE));
    openEcho(pair, Buffer.from('hello'));
    await carryOn(pair);
    act(pair);
    await pass(pair, 10);
    t.is(pair[whose].endings[0]?.code, code);
    t.deepEqual(countsOf(pair), [2, 2]);
    await echoes(t, pair);
  });
}

test('a byte lost within a record that is followed by nothing is detected within 5 s (R-LIVE-4)', async (t) => {
  const pair = await started(withKey(ONE));
  openEcho(pair, Buffer.alloc(8000));
  while (pair.a.outbound.totalBytes < 5000) await setImmediate();
  pair.a.outbound.mangle((bytes) => Buffer.concat([bytes.subarray(0, 3000), bytes.subarray(3100)]));
  await carryOn(pair);
  pair.clock.advance(2500);
  await carryOn(pair);
  t.is(pair.b.endings[0]?.code, 'desync');
  for (let ms = 2500; ms < 5000 && pair.b.sessions.length < 2; ms += 100) {
    pair.clock.advance(100);
    await carryOn(pair);
  }
  t.is(pair.b.sessions.length, 2);
  await echoes(t, pair);
});

/** Stops a side inside TLS. Returns whether the channel has everything it had to send. */
function stop({ loop }: Side): () => boolean {
  let isFlushed = false;
  loop.stop(new VproxyError('shutdown', 'stopped'));
  loop.afterFlush(() => (isFlushed = true));
  return () => isFlushed;
}

for (const count of [0, 1, 200]) {
  test(`a side stopped with ${count} streams open tells the peer inside TLS, and lets the channel be closed then`, async (t) => {
    const pair = await started(withKey(ONE));
    const codes: unknown[] = [];
    for (let opened = 0; opened < count; opened += 1) {
      openEcho(pair, Buffer.from('hello')).on('error', (error) => codes.push((error as { code?: unknown }).code));
    }
    await carryOn(pair);
    const isFlushed = stop(pair.a);
    await carryUntil(
      pair,
      eventually(() => isFlushed() && pair.b.endings.length > 0),
    );
    t.is(pair.b.endings[0]?.code, 'shutdown');
    t.is(codes.join(), Array.from({ length: count }, () => 'shutdown').join());
  });
}

test('on a channel that takes nothing, a side stopped inside TLS does not wait for long, and its writes are called back', async (t) => {
  const pair = await started(withKey(ONE), undefined, 1000);
  const stream = MuxStream.open(pair.a.session, ECHO);
  stream.on('error', () => undefined);
  let givenBack = 0;
  for (let count = 0; count < 40; count += 1) stream.write(Buffer.alloc(100_000), () => (givenBack += 1));
  pair.a.outbound.isStalled = true;
  await carryOn(pair);
  const isFlushed = stop(pair.a);
  await carryOn(pair);
  t.false(isFlushed());
  pair.clock.advance(300);
  await carryOn(pair);
  t.true(isFlushed());
  t.is(givenBack, 40);
});

// ---- certificates ------------------------------------------------------------------------------------------------------

/** Certificates of both sides: each has its own, the authority of its peer, and the peer's name. */
function certificates(t: ExecutionContext, guestName: string) {
  const folder = temporaryFolder(t);
  for (const name of ['host.test', 'guest.test']) makeCertificate(folder, name, [name]);
  const settings = (name: string, authority: string, expected: string): Partial<SessionSettings> => {
    const files = [`${authority}-ca.pem`, `${name}.pem`, `${name}.key`];
    const [ca = '', cert = '', key = ''] = files.map((file) => readFileSync(join(folder, file), 'utf8'));
    return { secure: tlsWithCertificates(() => ({ ca, cert, key, peerName: expected })) };
  };
  return [settings('host.test', 'guest.test', guestName), settings('guest.test', 'host.test', 'host.test')] as const;
}

for (const [what, guestName, other] of [
  ['for the names that each expects, there is a session', 'guest.test', {}],
  ['for another name than one side expects, there is none, and each knows why', 'other.test', {}],
  ['with a key, too, but for another name, there is none, and each knows why', 'other.test', { keys: () => [ONE] }],
  ['but a key alone on one of them, there is none, and each knows why', 'guest.test', withKey(ONE)],
] satisfies [string, string, Partial<SessionSettings>][]) {
  const isGood = what.endsWith('a session');
  test(`with certificates on both sides, ${what}, whichever side is TLS's client`, async (t) => {
    const [first, guest] = certificates(t, guestName);
    const changed = { ...guest, ...other };
    const host = what.startsWith('with a key') ? { ...first, ...other } : first;
    for (const pair of [await started(host, changed), await started(changed, host)]) {
      t.deepEqual(countsOf(pair), isGood ? [1, 1] : [0, 0]);
      if (isGood) await echoes(t, pair);
      else await pass(pair, 3);
      for (const { endings } of pair.sides) t.is(endings.at(-1)?.code, isGood ? undefined : 'auth-failed');
    }
  });
}

test('a peer that cannot have TLS is told to use keys', async (t) => {
  const pair = await started(withKey(ONE), { agent: 'vproxy-guest 1', secure: null });
  for (const { endings } of pair.sides)
    t.regex(endings[0]?.message ?? '', /; vproxy-guest has no TLS: .* in place of tls=$/);
});

test('a peer that restarts at any moment of the TLS handshake gets a session at once, and is not refused', async (t) => {
  const [host, guest] = certificates(t, 'guest.test');
  for (let turns = 1; turns < 30; turns += 1) {
    const pair = new SessionPair({ settings: host, settingsOfB: guest });
    pair.start();
    for (let turn = 0; turn < turns; turn += 1) {
      pair.step();
      await setImmediate();
    }
    pair.b.restart();
    await pass(pair, 1);
    t.true(pair.sides.every(({ loop }) => loop.session !== null));
    t.false(pair.a.endings.some(({ code }) => code === 'auth-failed'));
  }
});

// ---- other links -------------------------------------------------------------------------------------------------------

/** An established pair whose keys are the ones in `current`, with a stream that has sent something. */
async function resumable(current: { keys: SecretKey[] }, bytes: number) {
  const keys = (): SecretKey[] => current.keys;
  const pair = new ResumePair({ settings: { keys, secure: tlsWithKeys(keys) } });
  await pass(pair, 1);
  const end = pair.traffic.open(pair.a);
  end?.send(bytes);
  return { pair, end, session: pair.a.session };
}

test('a session inside TLS continues on another link, and nothing outside TLS reveals that it can', async (t) => {
  const { pair, end } = await resumable({ keys: [ONE] }, 200_000);
  await carryOn(pair);
  const seen = watch(pair);
  for (let cut = 0; cut < 3; cut += 1) {
    end?.send(200_000);
    pair.step(30_000);
    pair.cut();
    await pass(pair, 1);
  }
  end?.finish();
  end?.other?.finish();
  await carryOn(pair);
  t.deepEqual([...pair.traffic.faults(), ...pair.ended], []);
  t.deepEqual([end?.other?.receivedBytes, end?.reason, pair.a.resumed], [800_000, null, 3]);
  t.true(Buffer.concat(seen).includes('"nonce"'));
  t.false(Buffer.concat(seen).includes('resume'));
});

test('a session whose key was removed is replaced by one with another key', async (t) => {
  const current = { keys: [ONE] };
  const { pair, end, session } = await resumable(current, 10_000);
  pair.step(500);
  for (const keys of [[TWO, ONE], [TWO]]) {
    t.is(pair.a.loop.session, session);
    current.keys = keys;
    pair.cut();
    await pass(pair, 1);
  }
  t.is(pair.a.loop.session?.keyId, TWO.id);
  t.deepEqual([session.isOver, end?.reason?.code], [true, 'resume-refused']);
});

test('a session stays waiting if TLS breaks while it is being resumed', async (t) => {
  const { pair, end, session } = await resumable({ keys: [ONE] }, 10_000);
  pair.step(500);
  for (let turns = 1; turns < 30; turns += 1) {
    pair.cut();
    for (let turn = 0; turn < turns && pair.a.loop.session === null; turn += 1) {
      pair.step();
      await setImmediate();
    }
    if (pair.a.loop.session !== null) break;
    pair.b.outbound.mangle((bytes) => Buffer.concat([bytes, Buffer.alloc(100, 0x17)]));
    await carryOn(pair);
    t.false(session.isOver);
  }
  pair.cut();
  await pass(pair, 2);
  end?.finish();
  await carryOn(pair);
  t.deepEqual([end?.other?.receivedBytes, pair.ended], [10_000, []]);
});
