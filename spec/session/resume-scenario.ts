/** Random lives of sessions on many links and in many processes, and the invariants at their ends. */
import { createHash } from 'node:crypto';
import type { Integrity } from '../../lib/codec/header.js';
import { DEFAULT_LIMITS } from '../../lib/codec/limits.js';
import { SecretKey } from '../../lib/session/opening/auth.js';
import type { SessionSettings } from '../../lib/session/settings.js';
import { Random } from '../../tools/bench/soak/random.js';
import type { PatternEnd } from '../helpers/local-ends.js';
import { carry, type Side } from '../helpers/session-pair.js';
import type { Answer } from '../helpers/traffic.js';
import { ResumePair } from './resume-pair.js';

const MAX_STREAMS = 64;
const KEY = SecretKey.parse('1f'.repeat(32));
const ANSWERS: readonly [Answer, ...Answer[]] = ['accept', 'accept', 'accept', 'later', 'refuse', 'ignore'];

const NONE = { cuts: 0, damages: 0, handOvers: 0, resumed: 0, streams: 0, deliveredBytes: 0 };

class Life {
  readonly figures = { ...NONE };
  readonly carried = createHash('sha256');
  readonly #random: Random;
  readonly #pair: ResumePair;
  /** Streams that a side did not end in order. */
  readonly #tornDown = new Set<PatternEnd>();
  /** Whether changed bytes are detected, or only their number. */
  readonly #seesChanges: boolean;
  #isLinkDamaged = false;
  #services = 0;
  /** How long the sessions may have been without a link. */
  #apartMs = 0;
  readonly #isCaptured: boolean;

  /** The events and their frequencies in percent; the rest of the time bytes are carried. */
  readonly #operations: readonly (readonly [number, () => void])[] = [
    [17, () => this.#open()],
    [23, () => this.#send(this.#random.fraction() < 0.1 ? 100_000 : 5000)],
    [5, () => this.#pick()?.finish()],
    [2, () => this.#pick()?.stop()],
    [3, () => this.#tearDown()],
    [4, () => this.#pauseOrGoOn()],
    [3, () => this.#offer()],
    [5, () => this.#wait()],
    [8, () => this.#cut()],
    [5, () => this.#damage()],
    [5, () => this.#handOver()],
    [20, () => this.#carry()],
  ];
  /** The same where there is no link. */
  readonly #apart: readonly (readonly [number, () => void])[] = [
    [30, () => this.#open()],
    [40, () => this.#send(10_000)],
    [10, () => this.#tearDown()],
    [10, () => this.#offer()],
    [5, () => this.#handOverWithout(this.#side())],
    [5, () => this.#pick()?.finish()],
  ];

  constructor(random: Random, isCaptured: boolean) {
    this.#random = random;
    const settings = settingsBy(random);
    this.#seesChanges = settings.integrity === 'full';
    this.#pair = new ResumePair({
      settings,
      memoryBytes: random.pick([2000, 20_000, 200_000, 1_000_000]),
      capacityBytes: this.#capacity(),
      identity: random.integer(1, 1_000_000_000),
    });
    this.#isCaptured = isCaptured;
    for (const side of this.#pair.sides) {
      side.tap = (bytes) => {
        this.carried.update(bytes);
        this.#capture();
      };
    }
  }

  run(): void {
    for (let operations = this.#random.integer(10, 60); operations > 0; operations -= 1) {
      this.#operate(this.#operations);
      this.#capture();
    }
    this.#finish();
    const { traffic, a, b } = this.#pair;
    const deliveredBytes = traffic.ends.reduce((sum, { receivedBytes }) => sum + receivedBytes, 0);
    Object.assign(this.figures, { resumed: a.resumed + b.resumed, streams: traffic.ends.length, deliveredBytes });
  }

  faults(): string[] {
    const { traffic, a, b } = this.#pair;
    const faults = this.#pair.leftovers();
    for (const [side, other] of [[a, b] as const, [b, a] as const]) {
      const known = [...other.session.peerServices.names].sort().join(' ');
      if (known !== [...side.services].sort().join(' ')) faults.push(`${other.name} knows other services: ${known}`);
    }
    for (const [index, end] of traffic.ends.entries()) {
      const { other, reason } = end;
      if (this.#tornDown.has(end) || other === null || this.#tornDown.has(other)) continue;
      if (reason?.code !== other.reason?.code)
        faults.push(`end ${index}: ${reason?.code} here, ${other.reason?.code} there`);
      else if (reason === null && !end.hasStopped && end.receivedBytes !== other.wantedBytes && !other.finReceived)
        faults.push(`end ${index}: not all has come`);
    }
    return faults;
  }

  #capture(): void {
    if (this.#isCaptured) for (const side of this.#pair.sides) side.capture();
  }

  #operate(operations: readonly (readonly [number, () => void])[]): void {
    let choice = 100 * this.#random.fraction();
    operations.find(([percent]) => (choice -= percent) < 0)?.[1]();
  }

  #side(): Side {
    return this.#random.pick<Side>(this.#pair.sides);
  }

  /** Also while the session has no link. */
  #open(): void {
    const { traffic } = this.#pair;
    if (traffic.ends.length >= 2 * MAX_STREAMS) return;
    const { session, onSession } = this.#side();
    const answer = this.#random.pick(ANSWERS);
    const end = traffic.open({ loop: { session }, onSession }, answer);
    if (end !== null && answer === 'ignore') this.#tornDown.add(end);
  }

  #pick(): PatternEnd | null {
    const { ends } = this.#pair.traffic;
    return ends[this.#random.integer(0, ends.length - 1)] ?? null;
  }

  #send(mostBytes: number): void {
    this.#pick()?.send(this.#random.integer(1, mostBytes));
  }

  #tearDown(): void {
    const end = this.#pick();
    if (end === null) return;
    this.#tornDown.add(end);
    end.stream?.reset('cancelled', 'as the scenario has it');
  }

  #pauseOrGoOn(): void {
    const end = this.#pick();
    if (end === null) return;
    if (end.isPaused) end.resume();
    else end.isPaused = true;
    end.stream?.accept();
  }

  #offer(): void {
    const side = this.#side();
    this.#services += 1;
    side.services = [`service${this.#services}`];
    side.session.setServices(side.services);
  }

  /** Ends long before a session without a link, or an open without an answer. */
  #wait(): void {
    const ms = this.#random.integer(0, 2000);
    this.#apartMs += ms;
    if (this.#apartMs < 20_000) this.#pair.clock.advance(ms);
  }

  #carry(): void {
    for (let step = this.#random.integer(1, 8); step > 0; step -= 1) {
      const most = this.#random.pick([20, 1000, 20_000, 200_000]);
      this.#pair.step(this.#random.integer(0, most), this.#random.integer(0, most));
    }
  }

  #cut(): void {
    this.figures.cuts += 1;
    if (this.#random.fraction() < 0.3) {
      const [knows, other] = this.#bothWays();
      knows.disconnect();
      other.loseUnawares();
    } else this.#pair.disconnect();
    if (this.#random.fraction() < 0.3) for (let count = 3; count > 0; count -= 1) this.#operate(this.#apart);
    this.#connect();
  }

  #bothWays(): readonly [Side, Side] {
    const { a, b } = this.#pair;
    return this.#random.fraction() < 0.5 ? [a, b] : [b, a];
  }

  #connect(): void {
    this.#pair.connect(this.#capacity());
    this.#isLinkDamaged = false;
  }

  #handOver(): void {
    const side = this.#side();
    if (this.#random.fraction() < 0.7) {
      this.figures.handOvers += 1;
      side.handOver('with link');
      return;
    }
    this.#handOverWithout(side);
    this.#pair.disconnect();
    this.#connect();
  }

  #handOverWithout(side: Side): void {
    this.figures.handOvers += 1;
    side.handOver('without link');
  }

  /** Bytes in flight are lost, or come twice, and the link stays. */
  #damage(): void {
    // A byte that comes twice makes up for one that was lost.
    if (this.#isLinkDamaged && !this.#seesChanges) return;
    const [from, to] = this.#bothWays();
    this.figures.damages += 1;
    this.#isLinkDamaged = true;
    carry(from, to, this.#random.integer(1, this.#random.pick([1, 100, 5000])), this.#random.pick([0, 2]));
  }

  #capacity(): number {
    return this.#random.pick([50, 1000, 20_000, 1_000_000]) + this.#random.integer(0, 50);
  }

  /** Lets everything end, on a link that holds. */
  #finish(): void {
    const pair = this.#pair;
    const { traffic, clock, sides } = pair;
    // A link that one side lost unawares is abandoned for this one.
    pair.cut();
    const isDone = (): boolean => sides.every(({ session }) => session.streams.size === 0);
    for (let wait = 0; wait < 1000 && !(wait > 2 && isDone()); wait += 1) {
      pair.settle();
      if (sides.every(({ loop }) => loop.session !== null)) traffic.finishAll();
      pair.settle();
      // An ACK takes as long, and with little memory each of them lets little through.
      clock.advance(200);
    }
    pair.settle();
  }
}

function settingsBy(random: Random): Partial<SessionSettings> {
  const limits = {
    ...DEFAULT_LIMITS,
    // The flush of each link is as long.
    frame: random.pick([4096, 8192, 8192, 8192, 8192, 8192, 8192, 131_072]),
    streamCredit: random.pick([1024, 10_000, 65_536]),
    inFlight: random.pick([1024, 30_000, 1_048_576]),
    streams: random.pick([2, 64, 1024]),
    opens: random.pick([1, 256]),
  };
  const integrity = random.pick<Integrity>(['frame', 'full']);
  return { limits, integrity, ...(random.fraction() < 0.3 && { keys: () => [KEY] }) };
}

/**
 * Runs the life that `seed` determines. Throws if anything is wrong at the end. `isCaptured`: both sides are captured at every
 * step, and the captures are discarded.
 */
export function runLife(seed: number, isCaptured = false): typeof NONE & { readonly carried: string } {
  const life = new Life(new Random(seed), isCaptured);
  life.run();
  const faults = life.faults();
  if (faults.length > 0) throw new Error(faults.slice(0, 20).join('\n'));
  return { ...life.figures, carried: life.carried.digest('hex') };
}

/** The seed of the first life, random by default; each life has the next one. `SEED=n` repeats them. */
export const SEED = process.env['SEED'] === undefined ? Date.now() & 0x3fff_ffff : Number(process.env['SEED']);

/** The totals of all lives that were run. */
export class ResumeLives {
  readonly sums = { ...NONE };
  #nextSeed = SEED;

  /** Runs this many more. Throws at the first that goes wrong, with its seed. */
  run(count: number): void {
    for (const last = this.#nextSeed + count; this.#nextSeed < last; this.#nextSeed += 1) {
      try {
        const figures = runLife(this.#nextSeed);
        for (const key of Object.keys(NONE) as (keyof typeof NONE)[]) this.sums[key] += figures[key];
      } catch (error) {
        throw new Error(`SEED=${this.#nextSeed}: ${String(error)}`, { cause: error });
      }
    }
  }
}
