/** One random life of a session on many links, and what must hold at its end. */
import { createHash } from 'node:crypto';
import { Random } from '../../bench/soak/random.js';
import { DEFAULT_LIMITS, type Limits } from '../../lib/codec/limits.js';
import { SecretKey } from '../../lib/session/opening/auth.js';
import type { SessionSettings } from '../../lib/session/settings.js';
import type { PatternEnd } from '../helpers/local-ends.js';
import { carry, type Side } from '../helpers/session-pair.js';
import type { Answer } from '../helpers/traffic.js';
import { ResumePair } from './resume-pair.js';

const MAX_STREAMS = 64;
const KEY = SecretKey.parse('1f'.repeat(32));
const ANSWERS: readonly [Answer, ...Answer[]] = ['accept', 'accept', 'accept', 'later', 'refuse', 'ignore'];

export interface ScenarioFigures {
  readonly cuts: number;
  /** How often bytes were lost, or came twice, on a link that stayed. */
  readonly damages: number;
  readonly handOvers: number;
  readonly resumed: number;
  readonly streams: number;
  readonly deliveredBytes: number;
  readonly carried: string;
}

class Scenario {
  readonly #random: Random;
  readonly #pair: ResumePair;
  /** Those that a side ended otherwise than in order. */
  readonly #tornDown = new Set<PatternEnd>();
  #cuts = 0;
  #damages = 0;
  /** Whether bytes that are not as they were sent show, or only how many there are. */
  readonly #seesChanges: boolean;
  #isLinkDamaged = false;
  #handOvers = 0;
  #services = 0;
  /** For how long the sessions may have had no link. */
  #apartMs = 0;
  readonly #carried = createHash('sha256');
  readonly #isCaptured: boolean;

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
        this.#carried.update(bytes);
        this.#capture();
      };
    }
  }

  run(): ScenarioFigures {
    for (let operations = this.#random.integer(10, 60); operations > 0; operations -= 1) {
      this.#operate();
      this.#capture();
    }
    this.#finish();
    const { traffic, a, b } = this.#pair;
    return {
      cuts: this.#cuts,
      damages: this.#damages,
      handOvers: this.#handOvers,
      resumed: a.resumed + b.resumed,
      streams: traffic.ends.length,
      deliveredBytes: traffic.ends.reduce((sum, { receivedBytes }) => sum + receivedBytes, 0),
      carried: this.#carried.digest('hex'),
    };
  }

  #capture(): void {
    if (this.#isCaptured) for (const side of this.#pair.sides) side.capture();
  }

  faults(): string[] {
    const { traffic, sides, ended } = this.#pair;
    const faults = [...traffic.faults(), ...ended];
    const [a, b] = sides;
    for (const side of sides) {
      const { session } = side;
      const other = side === a ? b : a;
      if (side.sessions.length !== 1) faults.push(`${side.name} had ${side.sessions.length} sessions`);
      if (side.loop.session !== session) faults.push(`the session of ${side.name} has no link`);
      if (session.streams.size > 0) faults.push(`${session.streams.size} streams are left at ${side.name}`);
      if (session.unwrittenBytes > 0) faults.push(`${session.unwrittenBytes} bytes wait at ${side.name}`);
      const known = [...other.session.peerServices.names].sort().join(' ');
      if (known !== [...side.services].sort().join(' ')) faults.push(`${other.name} knows other services: ${known}`);
    }
    for (const [index, end] of traffic.ends.entries()) {
      if (!end.isOver) faults.push(`end ${index} does not end`);
      if (end.lentBuffers > 0) faults.push(`a buffer of end ${index} does not come back`);
      faults.push(...this.#endingFaults(end).map((fault) => `end ${index}: ${fault}`));
    }
    return faults;
  }

  #endingFaults(end: PatternEnd): string[] {
    const { other, reason } = end;
    if (this.#tornDown.has(end) || other === null || this.#tornDown.has(other)) return [];
    if (reason?.code !== other.reason?.code) return [`${reason?.code} here, ${other.reason?.code} there`];
    if (reason !== null || end.hasStopped) return [];
    return end.receivedBytes === other.wantedBytes || other.finReceived ? [] : ['not all has come'];
  }

  #operate(): void {
    const random = this.#random;
    const choice = random.fraction();
    if (choice < 0.17) this.#open();
    else if (choice < 0.4) this.#pick()?.send(random.integer(1, random.fraction() < 0.1 ? 100_000 : 5000));
    else if (choice < 0.45) this.#pick()?.finish();
    else if (choice < 0.47) this.#pick()?.stop();
    else if (choice < 0.5) this.#tearDown();
    else if (choice < 0.54) this.#pauseOrGoOn();
    else if (choice < 0.57) this.#offer();
    else if (choice < 0.62) this.#wait();
    else if (choice < 0.7) this.#cut();
    else if (choice < 0.75) this.#damage();
    else if (choice < 0.8) this.#handOver();
    else for (let step = random.integer(1, 8); step > 0; step -= 1) this.#step();
  }

  #open(): void {
    const { traffic, sides } = this.#pair;
    if (traffic.ends.length >= 2 * MAX_STREAMS) return;
    const { session, onSession } = this.#random.pick<Side>(sides);
    // Also while the session has no link.
    const answer = this.#random.pick(ANSWERS);
    const end = traffic.open({ loop: { session }, onSession }, answer);
    if (end !== null && answer === 'ignore') this.#tornDown.add(end);
  }

  #pick(): PatternEnd | null {
    const { ends } = this.#pair.traffic;
    return ends[this.#random.integer(0, ends.length - 1)] ?? null;
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
    const side = this.#random.pick<Side>(this.#pair.sides);
    this.#services += 1;
    side.services = [`service${this.#services}`];
    side.session.setServices(side.services);
  }

  #wait(): void {
    const ms = this.#random.integer(0, 2000);
    this.#apartMs += ms;
    // Long before a session ends for want of a link, or an open for want of an answer.
    if (this.#apartMs < 20_000) this.#pair.clock.advance(ms);
  }

  #step(): void {
    const most = this.#random.pick([20, 1000, 20_000, 200_000]);
    this.#pair.step(this.#random.integer(0, most), this.#random.integer(0, most));
  }

  #cut(): void {
    const pair = this.#pair;
    this.#cuts += 1;
    const unawares = this.#random.fraction();
    if (unawares < 0.3) {
      const [knows, other] = this.#random.fraction() < 0.5 ? [pair.a, pair.b] : [pair.b, pair.a];
      knows.disconnect();
      other.loseUnawares();
    } else {
      pair.disconnect();
    }
    // What happens without a link.
    if (this.#random.fraction() < 0.3) for (let count = 3; count > 0; count -= 1) this.#operateApart();
    pair.connect(this.#capacity());
    this.#isLinkDamaged = false;
  }

  #handOver(): void {
    const side = this.#random.pick<Side>(this.#pair.sides);
    this.#handOvers += 1;
    if (this.#random.fraction() < 0.7) {
      side.handOver('with link');
      return;
    }
    side.handOver('without link');
    this.#pair.cut(this.#capacity());
    this.#isLinkDamaged = false;
  }

  /** Bytes on the way are lost, or come twice, and the link stays. */
  #damage(): void {
    // A byte that comes twice makes up for one that was lost.
    if (this.#isLinkDamaged && !this.#seesChanges) return;
    const { a, b } = this.#pair;
    const [from, to] = this.#random.fraction() < 0.5 ? [a, b] : [b, a];
    this.#damages += 1;
    this.#isLinkDamaged = true;
    carry(from, to, this.#random.integer(1, this.#random.pick([1, 100, 5000])), this.#random.pick([0, 2]));
  }

  #operateApart(): void {
    const choice = this.#random.fraction();
    if (choice < 0.3) this.#open();
    else if (choice < 0.7) this.#pick()?.send(this.#random.integer(1, 10_000));
    else if (choice < 0.8) this.#tearDown();
    else if (choice < 0.9) this.#offer();
    else if (choice < 0.95) {
      this.#handOvers += 1;
      this.#random.pick<Side>(this.#pair.sides).handOver('without link');
    } else this.#pick()?.finish();
  }

  #capacity(): number {
    return this.#random.pick([50, 1000, 20_000, 1_000_000]) + this.#random.integer(0, 50);
  }

  /** Lets all come to an end, on a link that holds. */
  #finish(): void {
    const pair = this.#pair;
    const { traffic, clock } = pair;
    // A link that one side lost unawares is given up for this one.
    pair.cut();
    for (let wait = 0; wait < 1000 && !(wait > 2 && this.#isDone()); wait += 1) {
      pair.settle();
      if (this.#isResumed()) traffic.finishAll();
      pair.settle();
      // An ACK takes as long, and with little memory each of them lets little through.
      clock.advance(200);
    }
    pair.settle();
  }

  #isDone(): boolean {
    return this.#pair.sides.every(({ session }) => session.streams.size === 0);
  }

  #isResumed(): boolean {
    return this.#pair.sides.every(({ loop }) => loop.session !== null);
  }
}

function settingsBy(random: Random): Partial<SessionSettings> {
  const limits: Limits = {
    ...DEFAULT_LIMITS,
    // The flush of each link is as long.
    frame: random.pick([4096, 8192, 8192, 8192, 8192, 8192, 8192, 131_072]),
    streamCredit: random.pick([1024, 10_000, 65_536]),
    inFlight: random.pick([1024, 30_000, 1_048_576]),
    streams: random.pick([2, 64, 1024]),
    opens: random.pick([1, 256]),
  };
  return {
    limits,
    integrity: random.pick(['frame', 'full']),
    ...(random.fraction() < 0.3 && { keys: () => [KEY] }),
  };
}

/**
 * Runs what the numbers of `random` come to. Throws for what is wrong at the end. `isCaptured`: both sides are captured at every
 * step, and that is thrown away.
 */
export function runResumeScenario(random: Random, isCaptured = false): ScenarioFigures {
  const scenario = new Scenario(random, isCaptured);
  const figures = scenario.run();
  const faults = scenario.faults();
  if (faults.length > 0) throw new Error(faults.slice(0, 20).join('\n'));
  return figures;
}

// Random lives, one after another: each has a seed of its own, by which it can be repeated.

/** That of the first life, or whatever else is random; each life has the next one. `SEED=n` repeats them. */
export const SEED = process.env['SEED'] === undefined ? Date.now() & 0x3fff_ffff : Number(process.env['SEED']);

/** What the lives that were run came to together. */
export class ResumeLives {
  readonly sums = { cuts: 0, damages: 0, handOvers: 0, resumed: 0, streams: 0, deliveredBytes: 0 };
  #nextSeed = SEED;

  /** Runs so many more. Throws at the first in which something is wrong, with its seed. */
  run(count: number): void {
    for (const last = this.#nextSeed + count; this.#nextSeed < last; this.#nextSeed += 1) {
      try {
        const figures = runResumeScenario(new Random(this.#nextSeed));
        for (const key of Object.keys(this.sums) as (keyof typeof this.sums)[]) this.sums[key] += figures[key];
      } catch (error) {
        throw new Error(`SEED=${this.#nextSeed}: ${String(error)}`, { cause: error });
      }
    }
  }
}
