/** R-AUTH-2, R-AUTH-3: what is sent in one session is worthless in another one, even if both have the same key. */
import test from 'ava';
import { eventually } from '../helpers/time.js';
import { splitOpening } from './hello-editor.js';
import { type Attack, BOTH_WAYS, type Crossing, type Way } from './middle.js';
import { assertComesBack, assertRefused, endCodes, startScene } from './scene.js';

/** Lets the openings of two connections pass, and joins what follows them crosswise. */
class Crossover {
  /** The number of pairs that were joined. */
  joined = 0;
  readonly #tls: boolean;
  #waiting: [Half | null, Half | null] = [null, null];

  constructor(tls: boolean) {
    this.#tls = tls;
  }

  /** The attack on the first or the second channel. */
  attack(channel: 0 | 1): Attack {
    return (crossing) => {
      const half = new Half(crossing);
      this.#waiting[channel] = half;
      return (bytes, way) => {
        // Before anything of the other connection.
        crossing.inject(way, half.take(bytes, way));
        this.#joinIfReady();
        return NOTHING;
      };
    };
  }

  #joinIfReady(): void {
    const [one, other] = this.#waiting;
    if (one === null || other === null || !one.isReady(this.#tls) || !other.isReady(this.#tls)) return;
    this.#waiting = [null, null];
    // TLS needs its client at the same side of both: that is random, so it waits for other connections.
    if (this.#tls && one.firstWay !== other.firstWay) {
      for (const { crossing } of [one, other]) crossing.cut();
      return;
    }
    this.joined += 1;
    one.join(other.crossing);
    other.join(one.crossing);
  }
}

const NOTHING = Buffer.alloc(0);

/** Zeros, as only a flush has. */
const FLUSH = Buffer.alloc(32);

/** One of the two connections. */
class Half {
  readonly crossing: Crossing;
  readonly #held: Record<Way, Buffer[]> = { 'to-host': [], 'to-guest': [] };
  /** The side that sent first after the opening: TLS's client. */
  firstWay: Way | null = null;
  readonly #behindAt: Record<Way, number | null> = { 'to-host': null, 'to-guest': null };
  #target: Crossing | null = null;

  constructor(crossing: Crossing) {
    this.crossing = crossing;
  }

  isReady(tls: boolean): boolean {
    return BOTH_WAYS.filter((way) => this.#held[way].length > 0).length >= (tls ? 1 : 2);
  }

  /** The bytes of the opening, which are passed on; what follows it is held, or goes to the other connection. */
  take(bytes: Buffer, way: Way): Buffer {
    this.#behindAt[way] ??= openingLength(this.crossing, way);
    const behindAt = this.#behindAt[way];
    if (behindAt === null) return bytes;
    const all = this.crossing.all(way);
    const start = Math.max(behindAt, all.length - bytes.length);
    // A side that was refused opens again with a flush, which would end what the other sides have not read yet.
    const flush = all.indexOf(FLUSH, behindAt);
    const behind = all.subarray(start, flush === -1 ? all.length : Math.max(start, flush));
    if (behind.length > 0) {
      this.firstWay ??= way;
      if (this.#target === null) this.#held[way].push(behind);
      else this.#target.inject(way, behind);
    }
    return all.subarray(all.length - bytes.length, start);
  }

  join(target: Crossing): void {
    this.#target = target;
    for (const way of BOTH_WAYS) target.inject(way, Buffer.concat(this.#held[way]));
  }
}

/**
 * Where a side's opening ends: both HELLOs acknowledge each other there, and something else follows. Null before that.
 */
function openingLength(crossing: Crossing, way: Way): number | null {
  const bytes = crossing.all(way);
  if (!bytes.includes('VPROXY')) return null;
  try {
    const { last, behind } = splitOpening(bytes);
    return last['ack'] === null || behind.length === 0 ? null : bytes.length - behind.length;
  } catch {
    return null;
  }
}

for (const how of ['key', 'tls=psk'] as const) {
  test(`${how}: two sessions whose openings were passed on, and the rest of which was exchanged, are both refused`, async (t) => {
    const scenes = [await startScene(t, how), await startScene(t, how)] as const;
    const crossover = new Crossover(how !== 'key');
    for (const [index, { middle }] of scenes.entries()) middle.attack(crossover.attack(index as 0 | 1));
    for (const { guest } of scenes) await guest.start();
    const sides = scenes.flatMap(({ host, guest }) => [host, guest]);
    await eventually(() => {
      for (const { guest } of scenes) guest.proxy.retryNow();
      return crossover.joined > 0 && sides.every((side) => endCodes(side).includes('auth-failed'));
    });
    for (const scene of scenes) assertRefused(t, scene);
    if (how !== 'key') {
      const reasons = sides.map(({ events }) => events.map(({ message }) => message).join('\n'));
      t.true(reasons.some((reason) => /belongs to another opening/.test(reason)));
    }
    for (const scene of scenes) await assertComesBack(t, scene);
  });
}
