/** R-AUTH-2, R-AUTH-3: a man in the middle of a TCP channel gets no session, and no byte of a stream, in or out. */
import test, { type ExecutionContext } from 'ava';
import type { TestProxy } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { type Attack, BOTH_WAYS } from './middle.js';
import {
  editing,
  OPENING_ATTACKS,
  type OpeningAttack,
  recordingOf,
  replaying,
  replayingWithAnswers,
} from './opening-attacks.js';
import {
  assertComesBack,
  assertRefused,
  echoThrough,
  endCodes,
  PROTECTIONS,
  type Protection,
  type Scene,
  sessionCount,
  startScene,
} from './scene.js';

/** The bytes with which both sides have to have answered a recording: an opening, and a second HELLO. */
const OPENING_BYTES = 131_088 + 700;

/**
 * Attacks until it has failed with `code`; without one, until both sides have noticed that they receive their own
 * bytes.
 */
async function assertFails(scene: Scene, attack: Attack, code: string | null): Promise<void> {
  const { host, guest, middle } = scene;
  middle.attack(attack);
  await guest.start();
  const sides = [host, guest];
  const hearsItself = ({ events }: TestProxy) => events.some(({ event }) => event === 'channel-echo');
  const isOver = () => (code === null ? sides.every(hearsItself) : sides.some((side) => endCodes(side).includes(code)));
  await eventually(isOver, { what: code ?? 'the echo' });
}

async function runOpening(t: ExecutionContext, how: Protection, { attack, code }: OpeningAttack): Promise<void> {
  const scene = await startScene(t, how);
  await assertFails(scene, attack, code);
  assertRefused(t, scene);
  await assertComesBack(t, scene);
}

for (const how of PROTECTIONS) {
  for (const attack of OPENING_ATTACKS) {
    test(`${how}: a man in the middle who ${attack.what} gets ${attack.code ?? 'no session'}`, (t) =>
      runOpening(t, how, attack));
  }

  for (const [what, play, code] of [
    ['byte for byte', replaying, null],
    ['with the nonces of now', replayingWithAnswers, 'auth-failed'],
  ] as const) {
    test(`${how}: a recorded session that is played to both sides, ${what}, is none`, async (t) => {
      const scene = await startScene(t, how);
      const { host, guest, middle, reached } = scene;
      await guest.start();
      await Promise.all([host.event('session-established'), guest.event('session-established')]);
      t.is(await echoThrough(t, scene, 'recorded'), 'recorded');
      const recording = recordingOf(middle.newest);
      const since = [host.events.length, guest.events.length] as const;
      const connections = middle.crossings.length;
      middle.attack(play(recording));
      await eventually(() => {
        guest.proxy.retryNow();
        if (code !== null) return [host, guest].some((side, index) => endCodes(side, since[index]).includes(code));
        const [crossing] = middle.crossings.slice(connections);
        return BOTH_WAYS.every((way) => (crossing?.all(way).length ?? 0) > OPENING_BYTES);
      });
      t.deepEqual([sessionCount(host), sessionCount(guest)], [1, 1]);
      t.is(reached.length, 1);
      await assertComesBack(t, scene);
    });
  }
}

for (const how of ['key', 'tls=psk'] as const) {
  test(`${how}: keys that are swapped by their ids on the way are found out`, async (t) => {
    const scene = await startScene(t, how, { guestDigits: '2e' });
    const ids = new Map<unknown, string>();
    const swap = editing((fields) => {
      const { method, keys } = fields['auth'] as { method: string; keys: string[] };
      ids.set(keys[0], keys[0] ?? '');
      const others = [...ids.keys()].filter((id) => id !== keys[0]);
      // The first HELLO goes on as it is; from then on each side is told that the other one has its key.
      return { ...fields, auth: { method, keys: others.length === 0 ? keys : others } };
    });
    await assertFails(scene, swap, 'auth-failed');
    assertRefused(t, scene);
    t.true(scene.guest.events.every(({ message }) => !/2e2e2e2e/.test(message)));
  });
}
