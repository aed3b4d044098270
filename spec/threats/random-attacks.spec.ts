/**
 * R-AUTH-2, R-AUTH-3: whatever is lost, changed, repeated or inserted while a session is opened and proved, at any
 * byte, the session is the two sides' own, or there is no session.
 */
import assert from 'node:assert/strict';
import test from 'ava';
import fc from 'fast-check';
import { DEFAULT_LIMITS } from '../../lib/codec/limits.js';
import { tlsWithKeys } from '../../lib/link/tls-layer.js';
import { SecretKey, type SecureLayerFactory } from '../../lib/session/opening/auth.js';
import { carryOn, SessionPair, type Side } from '../helpers/session-pair.js';
import { HelloEditor, type HelloFields } from './hello-editor.js';
import { nextTo } from './opening-attacks.js';

const KEY = SecretKey.parse('1f'.repeat(32));

/** With the smallest frames, so that the flush is no more than a page. */
const LIMITS = { ...DEFAULT_LIMITS, frame: 4096 };
const FLUSH_BYTES = 4112;

/** The part of what a side writes that has an opening, its proof, and a handshake of TLS, without repeats. */
const INTERESTING_BYTES = 4000;

/** Changes to the fields of a HELLO. */
const EDITS: readonly ((fields: HelloFields) => HelloFields)[] = [
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

const DAMAGE = {
  flip: (bytes: Buffer, at: number, count: number): Buffer => {
    const copy = Buffer.from(bytes);
    copy[at] = (copy[at] ?? 0) ^ (1 << (count % 8));
    return copy;
  },
  lose: (bytes: Buffer, at: number, count: number): Buffer =>
    Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + count)]),
  repeat: (bytes: Buffer, at: number, count: number): Buffer =>
    Buffer.concat([bytes.subarray(0, at + count), bytes.subarray(at)]),
  insert: (bytes: Buffer, at: number, count: number): Buffer =>
    Buffer.concat([bytes.subarray(0, at), Buffer.alloc(count, 0x16), bytes.subarray(at)]),
  cut: (bytes: Buffer, at: number): Buffer => bytes.subarray(0, at),
  /** Another HELLO, with a right checksum: the piece is searched for one. */
  edit: (bytes: Buffer, _at: number, count: number): Buffer => {
    const edit = EDITS[count % EDITS.length] as (fields: HelloFields) => HelloFields;
    return new HelloEditor(edit).push(bytes);
  },
} as const;

/** One thing that is done to what a side writes: at this byte, counted from the beginning of the channel. */
interface Blow {
  readonly side: 'a' | 'b';
  readonly at: number;
  readonly kind: keyof typeof DAMAGE;
  readonly count: number;
}

const blow: fc.Arbitrary<Blow> = fc.record({
  side: fc.constantFrom('a' as const, 'b' as const),
  at: fc.oneof({ weight: 9, arbitrary: fc.nat(INTERESTING_BYTES).map((at) => FLUSH_BYTES + at) }, fc.nat(FLUSH_BYTES)),
  kind: fc.constantFrom(...(Object.keys(DAMAGE) as (keyof typeof DAMAGE)[])),
  count: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 2000 })),
});

/** What is done to a side's bytes, and what they were before. */
interface Damage {
  readonly written: Buffer[];
  /** From now on, bytes pass unchanged. */
  readonly stop: () => void;
}

/** Does all of this to what a side writes. */
function damage(side: Side, blows: readonly Blow[]): Damage {
  const take = side.outbound.take.bind(side.outbound);
  const written: Buffer[] = [];
  let position = 0;
  const left = [...blows].sort((one, other) => one.at - other.at);
  side.outbound.take = (count) => {
    const { bytes, drained } = take(count);
    const from = position;
    written.push(bytes);
    position += bytes.length;
    let result = bytes;
    for (let next = left[0]; next !== undefined && next.at < position; next = left[0]) {
      left.shift();
      result = DAMAGE[next.kind](result, Math.min(result.length, Math.max(0, next.at - from)), next.count);
    }
    return { bytes: Buffer.from(result), drained };
  };
  return { written, stop: () => void left.splice(0) };
}

/** Each session that a side has begun was begun on terms that the other one wrote, byte for byte; and the other way round. */
function assertOwn(
  { a, b }: SessionPair,
  written: Readonly<Record<string, readonly Buffer[]>>,
  isClear: boolean,
): void {
  for (const [side, other] of [
    [a, b],
    [b, a],
  ] as const) {
    const all = Buffer.concat([...(written[other.name] ?? [])]);
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

const CASES: readonly [what: string, isTls: boolean, runs: number][] = [
  ['a key', false, 1000],
  ['a key and TLS', true, 150],
];

for (const [what, isTls, runs] of CASES) {
  test(`with ${what} a session whose opening was damaged in any way is the two sides’ own, and comes in the end`, async (t) => {
    const property = fc.asyncProperty(fc.array(blow, { minLength: 1, maxLength: 4 }), async (blows) => {
      const secure: SecureLayerFactory = (...rest) => tlsWithKeys(() => [KEY], pair.clock)(...rest);
      const settings = { keys: () => [KEY], secure: isTls ? secure : null };
      const pair: SessionPair = new SessionPair({ settings, limits: LIMITS, integrity: 'frame' });
      const sides = [pair.a, pair.b].map((side) =>
        damage(
          side,
          blows.filter((each) => each.side === side.name),
        ),
      );
      const written = { a: sides[0]?.written ?? [], b: sides[1]?.written ?? [] };
      pair.a.loop.start();
      pair.b.loop.start();
      for (let second = 0; second < 15; second += 1) {
        await carryOn(pair);
        pair.clock.advance(1000);
      }
      assertOwn(pair, written, !isTls);
      for (const { stop } of sides) stop();
      for (let second = 0; second < 300 && !isTogether(pair); second += 1) {
        pair.clock.advance(1000);
        await carryOn(pair);
      }
      assertOwn(pair, written, !isTls);
      assert.ok(isTogether(pair), 'the two sides did not come together again');
    });
    await t.notThrowsAsync(fc.assert(property, { numRuns: runs, interruptAfterTimeLimit: 25_000 }));
  });
}

/** Whether the sessions that both sides are in now belong together. */
function isTogether({ a, b }: SessionPair): boolean {
  const [one, other] = [a.sessions.at(-1), b.sessions.at(-1)];
  return (
    one !== undefined &&
    other !== undefined &&
    a.loop.session === one &&
    b.loop.session === other &&
    one.agreement.peer.nonce === other.agreement.self.nonce
  );
}
