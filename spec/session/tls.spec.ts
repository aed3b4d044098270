/** R-AUTH-3: sessions inside TLS, in memory: what passes, and what a man in the middle can do. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { VproxyError } from '../../lib/errors.js';
import { type TlsCertificates, tlsWithCertificates, tlsWithKeys } from '../../lib/link/tls-layer.js';
import { MuxStream } from '../../lib/session/mux-stream.js';
import { SecretKey } from '../../lib/session/opening/auth.js';
import type { SessionSettings } from '../../lib/session/settings.js';
import { temporaryFolder } from '../helpers/files.js';
import { carryOn, carryUntil, SessionPair } from '../helpers/session-pair.js';
import { eventually } from '../helpers/time.js';

const [ONE, TWO] = ['1f', '2e'].map((digits) => SecretKey.parse(digits.repeat(32))) as [SecretKey, SecretKey];

const withKey = (key: SecretKey): Partial<SessionSettings> => ({ keys: () => [key], secure: tlsWithKeys(() => [key]) });

/** A pair that has carried bytes until both sides were at rest. */
async function started(
  settings: Partial<SessionSettings>,
  settingsOfB?: Partial<SessionSettings>,
  capacityBytes = 2 ** 20,
): Promise<SessionPair> {
  const pair = new SessionPair({ settings, capacityBytes, ...(settingsOfB && { settingsOfB }) });
  pair.b.services = ['echo'];
  pair.b.onSession = (session) =>
    session.on('stream', (stream) => {
      const mux = MuxStream.accept(session, stream);
      mux.on('error', () => undefined);
      mux.pipe(mux);
    });
  pair.a.loop.start();
  pair.b.loop.start();
  const isDecided = (side: SessionPair['a']) => side.sessions.length + side.endings.length > 0;
  // When one side ends TLS, the other may learn of it only by the next opening.
  const look = () => {
    pair.clock.advance(100);
    return isDecided(pair.a) && isDecided(pair.b);
  };
  await carryUntil(pair, eventually(look));
  return pair;
}

async function echoes(pair: SessionPair, bytes: Buffer): Promise<Buffer> {
  const stream = MuxStream.open(pair.a.session, 'echo');
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  stream.end(bytes);
  await carryUntil(pair, new Promise((resolve) => stream.once('end', resolve)));
  return Buffer.concat(chunks);
}

test('a session inside TLS with a common key carries bytes, and none of them is seen on the channel', async (t) => {
  const pair = await started(withKey(ONE));
  t.deepEqual([pair.a.sessions.length, pair.b.sessions.length], [1, 1]);
  const seen: Buffer[] = [];
  for (const side of [pair.a, pair.b]) {
    const take = side.outbound.take.bind(side.outbound);
    side.outbound.take = (count) => {
      const taken = take(count);
      seen.push(Buffer.from(taken.bytes));
      return taken;
    };
  }
  const secret = Buffer.alloc(300_000, 'a secret that nobody sees ');
  t.true((await echoes(pair, secret)).equals(secret));
  t.true(Buffer.concat(seen).length > 2 * secret.length);
  t.false(Buffer.concat(seen).includes('a secret that nobody sees'));
  t.false(Buffer.concat(seen).includes('echo'));
});

test('after a restart of one side there is a session inside TLS again', async (t) => {
  const pair = await started(withKey(ONE));
  pair.b.restart();
  for (let s = 0; s < 10; s += 1) {
    await carryOn(pair);
    pair.clock.advance(1000);
  }
  await carryOn(pair);
  t.is(pair.a.endings[0]?.code, 'peer-restarted');
  t.deepEqual([pair.a.sessions.length, pair.b.sessions.length], [2, 2]);
  t.is((await echoes(pair, Buffer.from('again'))).toString(), 'again');
});

for (const [what, a, b] of [
  ['without TLS at the other side', withKey(ONE), { keys: () => [ONE], secure: null }],
  ['with another key at the other side', withKey(ONE), withKey(TWO)],
  ['with no key at the other side', withKey(ONE), { keys: () => [], secure: null }],
] as const) {
  test(`there is no session ${what}: auth-failed on both`, async (t) => {
    const pair = await started(a, b);
    t.deepEqual([pair.a.sessions.length, pair.b.sessions.length], [0, 0]);
    t.is(pair.a.endings[0]?.code, 'auth-failed');
    t.is(pair.b.endings[0]?.code, 'auth-failed');
  });
}

test('a key of the same id and other bytes fails in TLS, as auth-failed on both', async (t) => {
  // Such a key cannot be made; a side that lies about its ids is the same.
  const liar = Object.create(TWO, { id: { value: ONE.id } }) as SecretKey;
  Object.defineProperties(liar, {
    exportBytes: { value: () => TWO.exportBytes() },
    authenticate: { value: () => Buffer.alloc(32) },
  });
  const pair = await started(withKey(ONE), withKey(liar));
  t.deepEqual([pair.a.sessions.length, pair.b.sessions.length], [0, 0]);
  t.is(pair.a.endings[0]?.code, 'auth-failed');
  t.is(pair.b.endings[0]?.code, 'auth-failed');
});

test('a byte that is changed on the way ends the session, and it comes back', async (t) => {
  const pair = await started(withKey(ONE));
  const take = pair.b.outbound.take.bind(pair.b.outbound);
  let isChanged = false;
  pair.b.outbound.take = (count) => {
    const taken = take(count);
    if (!isChanged && taken.bytes.length > 100) {
      taken.bytes[taken.bytes.length - 5] = (taken.bytes.at(-5) ?? 0) ^ 1;
      isChanged = true;
    }
    return taken;
  };
  const stream = MuxStream.open(pair.a.session, 'echo');
  stream.on('error', () => undefined);
  stream.resume().write(Buffer.alloc(5000));
  for (let s = 0; s < 10; s += 1) {
    await carryOn(pair);
    pair.clock.advance(1000);
  }
  t.true(isChanged);
  t.is(pair.a.endings[0]?.code, 'desync');
  t.is(pair.a.sessions.length, 2);
  t.is((await echoes(pair, Buffer.from('again'))).toString(), 'again');
});

test('a byte that is lost within a record, behind which nothing is sent, is found within 5 s (R-LIVE-4)', async (t) => {
  const pair = await started(withKey(ONE));
  const take = pair.a.outbound.take.bind(pair.a.outbound);
  let isLost = false;
  pair.a.outbound.take = (count) => {
    const taken = take(count);
    if (isLost || taken.bytes.length < 5000) return taken;
    isLost = true;
    return { ...taken, bytes: Buffer.concat([taken.bytes.subarray(0, 3000), taken.bytes.subarray(3100)]) };
  };
  const stream = MuxStream.open(pair.a.session, 'echo');
  stream.on('error', () => undefined);
  stream.resume().write(Buffer.alloc(8000));
  await carryOn(pair);
  t.true(isLost);
  pair.clock.advance(2500);
  await carryOn(pair);
  t.is(pair.b.endings[0]?.code, 'desync');
  for (let ms = 2500; ms < 5000 && pair.b.sessions.length < 2; ms += 100) {
    pair.clock.advance(100);
    await carryOn(pair);
  }
  t.is(pair.b.sessions.length, 2);
  t.is((await echoes(pair, Buffer.from('again'))).toString(), 'again');
});

for (const what of ['idle', 'with a stream open', 'with 200 streams open'] as const) {
  test(`a side that is stopped ${what} tells the peer so inside TLS, and lets the channel be closed then`, async (t) => {
    const pair = await started(withKey(ONE));
    const count = { idle: 0, 'with a stream open': 1, 'with 200 streams open': 200 }[what];
    const codes: unknown[] = [];
    for (let opened = 0; opened < count; opened += 1) {
      const stream = MuxStream.open(pair.a.session, 'echo');
      stream.on('error', (error) => codes.push((error as { code?: unknown }).code)).resume();
      stream.write('hello');
    }
    await carryOn(pair);
    pair.a.loop.stop(new VproxyError('shutdown', 'stopped'));
    let isFlushed = false;
    pair.a.loop.afterFlush(() => (isFlushed = true));
    await carryUntil(
      pair,
      eventually(() => isFlushed && pair.b.endings.length > 0),
    );
    t.is(pair.b.endings[0]?.code, 'shutdown');
    t.deepEqual(
      codes,
      Array.from({ length: count }, () => 'shutdown'),
    );
  });
}

test('a session that ends inside TLS is followed by another one, and says why before', async (t) => {
  const pair = await started(withKey(ONE));
  const stream = MuxStream.open(pair.a.session, 'echo');
  stream.on('error', () => undefined).resume();
  stream.write('hello');
  await carryOn(pair);
  pair.a.session.end(new VproxyError('flood', 'too much'));
  for (let s = 0; s < 10; s += 1) {
    await carryOn(pair);
    pair.clock.advance(1000);
  }
  await carryOn(pair);
  t.is(pair.b.endings[0]?.code, 'flood');
  t.deepEqual([pair.a.sessions.length, pair.b.sessions.length], [2, 2]);
  t.is((await echoes(pair, Buffer.from('again'))).toString(), 'again');
});

test('where the channel takes nothing, a side that is stopped inside TLS does not wait for long, and writes are given back', async (t) => {
  const pair = await started(withKey(ONE), undefined, 1000);
  const stream = MuxStream.open(pair.a.session, 'echo');
  stream.on('error', () => undefined);
  let givenBack = 0;
  for (let count = 0; count < 40; count += 1) stream.write(Buffer.alloc(100_000), () => (givenBack += 1));
  pair.a.outbound.isStalled = true;
  await carryOn(pair);
  pair.a.loop.stop(new VproxyError('shutdown', 'stopped'));
  let isFlushed = false;
  pair.a.loop.afterFlush(() => (isFlushed = true));
  await carryOn(pair);
  t.false(isFlushed);
  pair.clock.advance(300);
  await carryOn(pair);
  t.true(isFlushed);
  t.is(givenBack, 40);
});

/** A certificate authority, and two of its certificates, for the hosts `host.test` and `guest.test`. */
function makeCertificates(t: ExecutionContext) {
  const folder = temporaryFolder(t);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  for (const ca of ['ca', 'stranger'])
    openssl('req', '-x509', ...newKey, '-keyout', `${ca}.key`, '-out', `${ca}.pem`, '-subj', `/CN=${ca}`, '-days', '2');
  return (name: string, ca = 'ca', peerName: string | null = null): TlsCertificates => {
    openssl(
      'req',
      ...newKey,
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.csr`,
      '-subj',
      `/CN=${name}`,
      '-addext',
      `subjectAltName=DNS:${name}`,
    );
    openssl(
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      '-CA',
      `${ca}.pem`,
      '-CAkey',
      `${ca}.key`,
      '-CAcreateserial',
      '-copy_extensions',
      'copy',
      '-out',
      `${name}.pem`,
      '-days',
      '2',
    );
    const read = (file: string) => readFileSync(join(folder, file), 'utf8');
    return { ca: read('ca.pem'), cert: read(`${name}.pem`), key: read(`${name}.key`), peerName };
  };
}

test('with certificates on both sides, and the names that each expects, there is a session', async (t) => {
  const make = makeCertificates(t);
  const [host, guest] = [make('host.test', 'ca', 'guest.test'), make('guest.test', 'ca', 'host.test')];
  for (const [a, b] of [
    [host, guest],
    [guest, host],
  ] as const) {
    const pair = await started({ secure: tlsWithCertificates(() => a) }, { secure: tlsWithCertificates(() => b) });
    t.deepEqual([pair.a.sessions.length, pair.b.sessions.length], [1, 1]);
    t.is((await echoes(pair, Buffer.from('hello'))).toString(), 'hello');
  }
});

for (const [what, hostCa, expected] of [
  ['of another authority', 'stranger', 'guest.test'],
  ['for another name than the other side expects', 'ca', 'other.test'],
] as const) {
  test(`a certificate ${what} is auth-failed, whichever side is TLS's client`, async (t) => {
    const make = makeCertificates(t);
    const [host, guest] = [make('host.test', 'ca', expected), make('guest.test', hostCa, 'host.test')];
    for (const [a, b] of [
      [host, guest],
      [guest, host],
    ] as const) {
      const pair = await started({ secure: tlsWithCertificates(() => a) }, { secure: tlsWithCertificates(() => b) });
      t.deepEqual([pair.a.sessions.length, pair.b.sessions.length], [0, 0]);
      t.is((a === host ? pair.a : pair.b).endings[0]?.code, 'auth-failed');
    }
  });
}
