/** R-AUTH-2, R-AUTH-3: who controls the channel gets no session, and neither reads nor injects a byte of a stream. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { encodeFrame, FRAME_TYPE } from '../../lib/codec/header.js';
import { DEFAULT_LIMITS } from '../../lib/codec/limits.js';
import { type TlsCertificates, tlsWithCertificates, tlsWithKeys } from '../../lib/link/tls-layer.js';
import { SecretKey } from '../../lib/session/opening/auth.js';
import type { SessionSettings } from '../../lib/session/settings.js';
import { makeCertificate } from '../helpers/certificates.js';
import { peerInsideLayer } from '../helpers/glass-layer.js';
import { RecordingSink } from '../helpers/local-ends.js';
import { carryOn, type PairOptions } from '../helpers/session-pair.js';
import { ResumePair } from '../session/resume-pair.js';
import { type Attack, AttackedPair, CLEAR_HELLO, type Edit, editing, helloOf, splitOpening } from './middle.js';

const [KEY, OTHER_KEY] = ['1f', '2e'].map((digits) => SecretKey.parse(digits.repeat(32))) as [SecretKey, SecretKey];

/** By name, the certificate that a side shows, and the authority that trusts it. */
const certificates: Record<string, Omit<TlsCertificates, 'peerName'>> = {};

test.before(() => {
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-'));
  for (const name of ['host', 'guest', 'stranger']) {
    makeCertificate(folder, name);
    const [ca, cert, key] = [`${name}-ca.pem`, `${name}.pem`, `${name}.key`].map((file) =>
      readFileSync(join(folder, file), 'utf8'),
    ) as [string, string, string];
    certificates[name] = { ca, cert, key };
  }
  rmSync(folder, { recursive: true });
});

type Protection = 'key' | 'tls=psk' | 'tls=cert';
const PROTECTIONS: readonly Protection[] = ['key', 'tls=psk', 'tls=cert'];

/** A protected pair; `guest` replaces the protection of the second side. */
function pairOf(how: Protection, guest: Partial<SessionSettings> = {}, options: PairOptions = {}): AttackedPair {
  const secure = (own: string, peer: string): Partial<SessionSettings> => {
    if (how !== 'tls=cert') return { keys: () => [KEY], secure: how === 'key' ? null : keyLayer(KEY, () => pair) };
    return { secure: certificateLayer({ ca: peer, own }, () => pair) };
  };
  const pair: AttackedPair = new AttackedPair({
    settings: secure('host', 'guest'),
    settingsOfB: { ...secure('guest', 'host'), ...guest },
    ...options,
  });
  return pair;
}

type Layer = NonNullable<SessionSettings['secure']>;

const keyLayer =
  (key: SecretKey, pair: () => AttackedPair): Layer =>
  (...rest) =>
    tlsWithKeys(() => [key], pair().clock)(...rest);

/** With the certificate of `own`, or none, and the authority of `ca`. */
const certificateLayer =
  ({ ca, own }: { readonly ca: string; readonly own: string | null }, pair: () => AttackedPair): Layer =>
  (...rest) => {
    const { cert, key } = own === null ? { cert: '', key: '' } : (certificates[own] as TlsCertificates);
    const read = () => ({ ca: certificates[ca]?.ca ?? '', cert, key, peerName: null });
    return tlsWithCertificates(read, pair().clock)(...rest);
  };

const countsOf = ({ sides }: AttackedPair): number[] => sides.map(({ sessions }) => sessions.length);
const codesOf = ({ sides }: AttackedPair): string[] => sides.flatMap(({ endings }) => endings.map(({ code }) => code));

/** After the attack both sides have their session, and streams on it. */
async function comesBack(t: ExecutionContext, pair: AttackedPair): Promise<void> {
  t.true(await pair.comesTogether());
  const before = pair.reached.length;
  pair.a.session.open('echo', null, new RecordingSink());
  await carryOn(pair);
  t.is(pair.reached.length, before + 1);
}

/** Attacks two sides from the beginning: there is no session, and at least one side has ended with `code`. */
async function fails(t: ExecutionContext, pair: AttackedPair, attack: Attack, code: string | null): Promise<void> {
  pair.attack(attack);
  pair.start();
  await pair.pass(15);
  t.deepEqual([countsOf(pair), pair.reached], [[0, 0], []]);
  if (code === null) t.deepEqual(codesOf(pair), []);
  else t.true(codesOf(pair).includes(code), codesOf(pair).join());
  await comesBack(t, pair);
}

// ---- the opening -----------------------------------------------------------------------------------------------------

/** Another hexadecimal value, close to this one. */
const nextTo = (value: unknown): string => `${String(value).slice(0, -1)}${String(value).endsWith('7') ? '8' : '7'}`;

/** Each HELLO has a nonce of the attacker, and acknowledges its reader's. */
function swapNonces(): Attack {
  const real = new Map<unknown, unknown>();
  return editing((fields) => {
    const nonce = nextTo(fields['nonce']);
    real.set(nonce, fields['nonce']);
    return { ...fields, nonce, ack: real.get(fields['ack']) ?? fields['ack'] };
  });
}

function mirror(pair: AttackedPair, change: Attack = (bytes) => bytes): Attack {
  return (bytes, from) => {
    pair.inject(from, change(bytes, from));
    return Buffer.alloc(0);
  };
}

/** As another process, with the lesser nonce: each side becomes the TLS client, and gets its own first record. */
const disguise: Edit = (fields) => ({
  ...fields,
  instance: nextTo(fields['instance']),
  nonce: '0'.repeat(8) + String(fields['nonce']).slice(8),
  ack: fields['nonce'],
});

const OPENING_ATTACKS: readonly [what: string, code: string | null, attack: (pair: AttackedPair) => Attack][] = [
  ['makes the nonces of both HELLOs his own, and acknowledges for each side', 'auth-failed', swapNonces],
  [
    'takes all protection out of both HELLOs',
    'auth-failed',
    () => editing((fields) => ({ ...fields, auth: null, tls: false })),
  ],
  [
    'lowers the version in both HELLOs to one that was broken',
    'version-mismatch',
    () => editing((fields) => ({ ...fields, version: { min: 0, max: 0 } })),
  ],
  ['reflects the bytes of each side', null, mirror],
  ['reflects the bytes of each side, as another process', 'auth-failed', (pair) => mirror(pair, editing(disguise))],
];

for (const how of PROTECTIONS) {
  for (const [what, code, attack] of OPENING_ATTACKS) {
    test(`${how}: a man in the middle who ${what} gets ${code ?? 'no session'}`, async (t) => {
      const pair = pairOf(how);
      await fails(t, pair, attack(pair), code);
    });
  }

  test(`${how}: a recorded session replayed to both sides, even with the current nonces, is refused`, async (t) => {
    const pair = pairOf(how);
    pair.start();
    await comesBack(t, pair);
    const [a, b] = pair.sides.map(({ name }) => Buffer.concat(pair.written[name] ?? [])) as [Buffer, Buffer];
    const recordedFor = new Map([
      [pair.a, b],
      [pair.b, a],
    ]);
    pair.cut();
    for (const [side, bytes] of recordedFor) pair.inject(side, bytes);
    pair.attack(() => Buffer.alloc(0));
    await pair.pass(15);
    t.deepEqual(countsOf(pair), [1, 1]);
    // The bytes after the HELLOs are read if these acknowledge the current nonces.
    const edit: Edit = ({ nonce }, side) => {
      const { last, behind } = splitOpening(recordedFor.get(side) as Buffer);
      pair.inject(side, Buffer.concat([helloOf({ ...last, ack: nonce }), behind]));
      return null;
    };
    pair.cut();
    pair.attack((bytes, from) => Buffer.alloc(0 * editing(edit)(bytes, from).length));
    await pair.pass(15);
    t.deepEqual([countsOf(pair), pair.reached], [[1, 1], ['echo']]);
    t.true(codesOf(pair).includes('auth-failed'));
    await comesBack(t, pair);
  });
}

for (const how of ['key', 'tls=psk'] as const) {
  test(`${how}: swapping the ids of keys on the way is detected`, async (t) => {
    const secure = how === 'key' ? null : keyLayer(OTHER_KEY, () => pair);
    const pair: AttackedPair = pairOf(how, { keys: () => [OTHER_KEY], secure });
    const swap: Edit = (fields, { name }) => {
      return { ...fields, auth: { ...(fields['auth'] as object), keys: [name === 'a' ? OTHER_KEY.id : KEY.id] } };
    };
    pair.attack(editing(swap));
    pair.start();
    await pair.pass(15);
    t.deepEqual([countsOf(pair), pair.reached], [[0, 0], []]);
    t.true(codesOf(pair).includes('auth-failed'));
  });
}

for (const [what, how, guest] of [
  ['a certificate instead of the key', 'tls=psk', { ca: 'stranger', own: 'stranger' }],
  ['a certificate of another authority', 'tls=cert', { ca: 'host', own: 'stranger' }],
  ['no certificate', 'tls=cert', { ca: 'host', own: null }],
] as const) {
  test(`${how}: a peer with ${what} in TLS is refused, as its client or its server`, async (t) => {
    const roles = new Set<boolean>();
    for (let identity = 0; roles.size < 2; identity += 2) {
      const pair: AttackedPair = pairOf(how, { secure: certificateLayer(guest, () => pair) }, { identity });
      pair.start();
      await pair.pass(2);
      const [own = '', peer = ''] = pair.sides.map(({ name }) => {
        return String(splitOpening(Buffer.concat(pair.written[name] ?? [])).last['nonce']);
      });
      roles.add(own < peer);
      t.deepEqual(countsOf(pair), [0, 0]);
      t.true(pair.a.endings.some(({ code }) => code === 'auth-failed'));
    }
  });
}

/** Without TLS itself: the opening inside it is judged like one in clear, and must belong to the one before it. */
for (const [what, features, fields, end] of [
  ['both outer nonces', ([own, other]: string[]) => [own, other], {}, null],
  ['both outer nonces in the other order', ([own, other]: string[]) => [other, own], {}, null],
  ['no outer nonce', () => [], {}, 'auth-failed'],
  ['its own outer nonce only', ([own]: string[]) => [own], {}, 'auth-failed'],
  ['the other side’s outer nonce only', ([, other]: string[]) => [other], {}, 'auth-failed'],
  ['outer nonces of another opening', () => ['1'.repeat(32), '2'.repeat(32)], {}, 'auth-failed'],
  ['another version', (nonces: string[]) => nonces, { version: { min: 2, max: 2 } }, 'version-mismatch'],
] as const) {
  test(`a HELLO inside TLS with ${what} is ${end ?? 'the beginning of a session'}`, (t) => {
    const peer = peerInsideLayer((nonces) => {
      return { features: features(nonces).map((nonce) => `outer:${nonce ?? ''}`), ...fields };
    });
    t.is(peer.sessions.length, end === null ? 1 : 0);
    t.deepEqual(peer.codes, end === null ? [] : [end]);
  });
}

// ---- around, in and after TLS ----------------------------------------------------------------------------------------

/** The first frames of a session without TLS, with the ids of either side. */
const OPENS = Buffer.concat(
  [1, 2].flatMap((id) => [
    encodeFrame(FRAME_TYPE.SERVICES, 0, Buffer.from('{"services":[]}'), 1),
    encodeFrame(FRAME_TYPE.OPEN, id, Buffer.from('{"service":"echo"}'), 2),
    encodeFrame(FRAME_TYPE.DATA, id, Buffer.from('forged'), 3),
  ]),
);

/** Bytes in clear, inserted into those of a side. */
const INSERTIONS: Readonly<Record<string, Buffer>> = {
  frames: OPENS,
  'a flush': Buffer.alloc(131_088),
  'a HELLO of another process, and frames': Buffer.concat([helloOf(CLEAR_HELLO), OPENS]),
  'a record that TLS did not make': Buffer.from('1703030013' + 'ab'.repeat(19), 'hex'),
  'an alert': Buffer.from('15030300020100', 'hex'),
  'half of a magic': Buffer.from('ff005650', 'hex'),
};

/** Inserts bytes before or after the first record of each handshake. */
function besideFirstRecord(where: 'before' | 'behind', inserted: Buffer): Attack {
  return (bytes) => {
    const records = bytes.includes('VPROXY') ? splitOpening(bytes).behind : bytes;
    if (records[0] !== 22) return bytes;
    const at = where === 'before' ? bytes.length - records.length : bytes.length;
    return Buffer.concat([bytes.subarray(0, at), inserted, bytes.subarray(at)]);
  };
}

for (const [what, inserted] of Object.entries(INSERTIONS)) {
  test(`${what} in clear, beside the first TLS record or in a session inside TLS, is never accepted as the peer’s`, async (t) => {
    for (const where of ['before', 'behind'] as const) {
      const pair = pairOf('tls=psk');
      pair.attack(besideFirstRecord(where, inserted));
      pair.start();
      await pair.pass(15);
      t.deepEqual([countsOf(pair), pair.reached], [[0, 0], []], where);
      t.true(codesOf(pair).length > 0);
      await comesBack(t, pair);
    }
    const pair = pairOf('tls=psk');
    pair.start();
    await comesBack(t, pair);
    for (const side of pair.sides) pair.inject(side, inserted);
    await pair.pass(15);
    for (const { endings } of pair.sides) t.true(endings.length > 0);
    await comesBack(t, pair);
    t.is(pair.reached.length, 2);
  });
}

test('a session in clear is refused on a connection on which one inside TLS has ended', async (t) => {
  const pair = pairOf('tls=psk');
  pair.start();
  await comesBack(t, pair);
  const answer: Edit = ({ nonce }) => {
    pair.inject(pair.a, Buffer.concat([helloOf({ ...CLEAR_HELLO, ack: nonce }), OPENS]));
    return null;
  };
  pair.attack((bytes, from) => (from === pair.a ? editing(answer)(bytes, from) : bytes).subarray(0, 0));
  pair.inject(pair.a, Buffer.alloc(131_088));
  await pair.pass(15);
  t.true(pair.a.endings.some(({ code }) => code === 'auth-failed'));
  t.deepEqual([countsOf(pair), pair.reached], [[1, 1], ['echo']]);
  await comesBack(t, pair);
});

for (const [what, change] of Object.entries({
  'a flipped bit': (bytes: Buffer) =>
    Buffer.concat([bytes.subarray(0, -3), bytes.subarray(-3).map((byte) => byte ^ 1)]),
  'a record that comes twice': (bytes: Buffer) => Buffer.concat([bytes, bytes]),
  'a record that is lost': () => Buffer.alloc(0),
  'a record of the other direction': (_bytes: Buffer, other: Buffer) => other,
})) {
  test(`${what} inside TLS suspends a session that outlives its link, and nothing is lost`, async (t) => {
    const settings = { keys: () => [KEY], secure: tlsWithKeys(() => [KEY]) };
    const pair = new ResumePair({ settings });
    const pass = async () => {
      await carryOn(pair);
      pair.clock.advance(1000);
      await carryOn(pair);
    };
    await pass();
    const end = pair.traffic.open(pair.a);
    await carryOn(pair);
    const back: Buffer[] = [];
    pair.b.tap = (bytes) => back.push(Buffer.from(bytes));
    end?.send(20_000);
    end?.other?.send(20_000);
    await carryOn(pair);
    end?.send(20_000);
    while (pair.a.outbound.totalBytes === 0) await new Promise((resolve) => setImmediate(resolve));
    pair.a.outbound.mangle((bytes) => change(bytes, back.findLast(({ length }) => length > 0) ?? bytes));
    for (let second = 0; second < 10; second += 1) await pass();
    end?.finish();
    end?.other?.finish();
    await pass();
    t.deepEqual([...pair.traffic.faults(), ...pair.ended], []);
    t.deepEqual([end?.other?.receivedBytes, end?.receivedBytes, end?.reason], [40_000, 20_000, null]);
    t.true(pair.a.resumed > 0);
  });
}

// ---- at any byte -----------------------------------------------------------------------------------------------------

/** With the smallest frames, so that the flush is at most a page. */
const LIMITS = { ...DEFAULT_LIMITS, frame: 4096 };
const FLUSH_BYTES = 4112;

/** The part of a side's bytes with an opening, its proof, and a TLS handshake, without repetitions. */
const INTERESTING_BYTES = 4000;

const EDITS: readonly Edit[] = [
  (fields) => ({ ...fields, name: 'somebody else' }),
  (fields) => ({ ...fields, integrity: 'full' }),
  (fields) => ({ ...fields, limits: { ...LIMITS, streams: 7 } }),
  (fields) => ({ ...fields, features: ['new'] }),
  (fields) => ({ ...fields, auth: null }),
  (fields) => ({ ...fields, auth: null, tls: null }),
  (fields) => ({ ...fields, tls: fields['tls'] !== true }),
  (fields) => ({ ...fields, version: { min: 0, max: 1 } }),
  (fields) => ({ ...fields, nonce: nextTo(fields['nonce']) }),
  (fields) => ({ ...fields, instance: nextTo(fields['instance']) }),
];

type Damage = (bytes: Buffer, at: number, count: number) => readonly Uint8Array[];

const cutOut: Damage = (bytes, at, count) => [bytes.subarray(0, at), bytes.subarray(at + count)];

const DAMAGE = {
  flip: (bytes, at, count) => [bytes.map((byte, index) => (index === at ? byte ^ (1 << (count % 8)) : byte))],
  lose: cutOut,
  repeat: (bytes, at, count) => [bytes.subarray(0, at + count), bytes.subarray(at)],
  insert: (bytes, at, count) => [bytes.subarray(0, at), Buffer.alloc(count, 0x16), bytes.subarray(at)],
  cut: (bytes, at) => [bytes.subarray(0, at)],
} satisfies Record<string, Damage>;

/** One change to a side's bytes, at this offset from the beginning of the channel. */
interface Blow {
  readonly side: string;
  readonly at: number;
  /** `edit`: all HELLOs written at once there, each with a valid checksum. */
  readonly kind: keyof typeof DAMAGE | 'edit';
  readonly count: number;
}

const blow: fc.Arbitrary<Blow> = fc.record({
  side: fc.constantFrom('a', 'b'),
  at: fc.oneof({ weight: 9, arbitrary: fc.nat(INTERESTING_BYTES).map((at) => FLUSH_BYTES + at) }, fc.nat(FLUSH_BYTES)),
  kind: fc.constantFrom(...(Object.keys(DAMAGE) as (keyof typeof DAMAGE)[]), 'edit' as const),
  count: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 2000 })),
});

function striking(blows: readonly Blow[]): Attack {
  const positions: Record<string, number> = { a: 0, b: 0 };
  return (bytes, side) => {
    const from = positions[side.name] ?? 0;
    const to = from + bytes.length;
    positions[side.name] = to;
    const due = blows.filter(({ side: name, at }) => name === side.name && at >= from && at < to);
    return due.reduce<Buffer>((result, { kind, at, count }) => {
      if (kind === 'edit') return editing(EDITS[count % EDITS.length] as Edit)(result, side);
      return Buffer.concat(DAMAGE[kind](result, Math.min(result.length, at - from), count));
    }, bytes);
  };
}

/** Each session of a side began on the terms that the other side wrote, byte for byte, and vice versa. */
function assertOwn(pair: AttackedPair, isClear: boolean): void {
  for (const side of pair.sides) {
    const other = pair.other(side);
    const all = Buffer.concat(pair.written[other.name] ?? []);
    for (const { agreement } of side.sessions) {
      assert.deepEqual(agreement.peer.limits, LIMITS);
      assert.equal(agreement.integrity, 'frame');
      if (isClear) assert.ok(all.includes(agreement.peerPayload), 'terms that the peer never wrote');
      const same = other.sessions.find((session) => session.agreement.self.nonce === agreement.peer.nonce);
      if (same === undefined) continue;
      assert.ok(same.agreement.selfPayload.equals(agreement.peerPayload));
      assert.ok(same.agreement.peerPayload.equals(agreement.selfPayload));
    }
  }
}

for (const [how, runs] of [
  ['key', 1000],
  ['tls=psk', 150],
] as const) {
  test(`${how}: with an opening damaged in any way the session is still only between the two sides, and is established in the end`, async (t) => {
    const property = fc.asyncProperty(fc.array(blow, { minLength: 1, maxLength: 4 }), async (blows) => {
      const pair = pairOf(how, {}, { limits: LIMITS, integrity: 'frame' });
      pair.attack(striking(blows));
      pair.start();
      await pair.pass(15);
      assertOwn(pair, how === 'key');
      assert.ok(await pair.comesTogether(), 'the two sides did not come together again');
      assertOwn(pair, how === 'key');
    });
    await t.notThrowsAsync(fc.assert(property, { numRuns: runs }));
  });
}
