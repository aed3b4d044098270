/** R-AUTH-3, R-RESUME-1: sessions inside TLS that outlive their links, in memory. */
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { tlsWithKeys } from '../../lib/link/tls-layer.js';
import { SecretKey } from '../../lib/session/opening/auth.js';
import { ResumePair } from './resume-pair.js';

const [ONE, TWO] = ['1f', '2e'].map((digits) => SecretKey.parse(digits.repeat(32))) as [SecretKey, SecretKey];

/** TLS takes turns of the event loop: carries bytes until nothing has moved for some of them. */
async function settle(pair: ResumePair): Promise<void> {
  for (let idleTurns = 0; idleTurns < 8; ) {
    idleTurns = pair.step(65_536) ? 0 : idleTurns + 1;
    await setImmediate();
  }
}

/** Lets time pass, second by second. */
async function settleFor(pair: ResumePair, seconds: number): Promise<void> {
  for (let second = 0; second < seconds; second += 1) {
    await settle(pair);
    pair.clock.advance(1000);
  }
  await settle(pair);
}

/** An established pair whose keys are those that `current` has at the time. */
async function protectedPair(current: { keys: SecretKey[] }): Promise<ResumePair> {
  const keys = (): SecretKey[] => current.keys;
  const pair = new ResumePair({ settings: { keys, secure: tlsWithKeys(keys) } });
  await settleFor(pair, 1);
  return pair;
}

test('a session inside TLS goes on with another link, and nobody in front of TLS learns that it can', async (t) => {
  const pair = await protectedPair({ keys: [ONE] });
  const seen: Buffer[] = [];
  const end = pair.traffic.open(pair.a);
  end?.send(200_000);
  await settle(pair);
  for (let cut = 0; cut < 3; cut += 1) {
    end?.send(200_000);
    pair.step(30_000);
    pair.cut();
    for (const side of pair.sides) {
      const { bytes } = side.outbound.take(1_000_000);
      seen.push(bytes);
      side.outbound.write(bytes);
    }
    await settleFor(pair, 1);
  }
  end?.finish();
  end?.other?.finish();
  await settle(pair);
  t.deepEqual(pair.endings, []);
  t.deepEqual(pair.traffic.faults(), []);
  t.is(end?.other?.receivedBytes, 800_000);
  t.is(end?.reason, null);
  t.is(pair.a.resumed, 3);
  t.true(Buffer.concat(seen).includes('"nonce"'));
  t.false(Buffer.concat(seen).includes('resume'));
});

test('a session whose key was taken away gives way to one with another key', async (t) => {
  const current = { keys: [ONE] };
  const pair = await protectedPair(current);
  const { session } = pair.a;
  const end = pair.traffic.open(pair.a);
  end?.send(10_000);
  pair.step(500);
  current.keys = [TWO, ONE];
  pair.cut();
  await settleFor(pair, 1);
  t.true(pair.a.loop.session === session);
  current.keys = [TWO];
  pair.cut();
  await settleFor(pair, 1);
  t.is(pair.a.loop.session?.keyId, TWO.id);
  t.true(session.isOver);
  t.is(end?.reason?.code, 'resume-refused');
});

test('TLS that breaks while a session is taken up again leaves that waiting', async (t) => {
  const pair = await protectedPair({ keys: [ONE] });
  const { session } = pair.a;
  const end = pair.traffic.open(pair.a);
  end?.send(10_000);
  pair.step(500);
  for (let turns = 1; turns < 30; turns += 1) {
    pair.cut();
    for (let turn = 0; turn < turns && pair.a.loop.session === null; turn += 1) {
      pair.step(65_536);
      await setImmediate();
    }
    if (pair.a.loop.session !== null) break;
    pair.b.outbound.mangle((bytes) => Buffer.concat([bytes, Buffer.alloc(100, 0x17)]));
    await settle(pair);
    t.false(session.isOver);
  }
  pair.cut();
  await settleFor(pair, 2);
  end?.finish();
  await settle(pair);
  t.is(end?.other?.receivedBytes, 10_000);
  t.deepEqual(pair.endings, []);
});
