/**
 * A channel that several processes dial, with a clock moved by hand: keepers fight for it, guests reboot, links break, processes are
 * killed, hand over and look for each other. Checks after each step that no keeper stands still, acts twice, or shows a state that
 * is not true.
 */
import assert from 'node:assert/strict';
import { VproxyError } from '../../lib/errors.js';
import { Keeper, type KeeperHands } from '../../lib/proxy/channel/keeper.js';
import type { Rival } from '../../lib/proxy/channel/rival.js';
import { ManualClock, ProcessClock } from '../helpers/time.js';

export interface KeeperOperation {
  readonly what: (typeof KEEPER_OPERATIONS)[number];
  readonly index: number;
  readonly amount: number;
}

export const KEEPER_OPERATIONS = [
  ...(['pass', 'pass', 'pass', 'begin', 'kill', 'upgrade', 'upgrade-without-link'] as const),
  ...(['retry', 'cut', 'reboot', 'down', 'up', 'deafen', 'hear', 'refuse', 'admit', 'confuse'] as const),
] as const;

export interface KeeperLife {
  /**
   * What is at the other end: `listener` gives the channel to the newest, `qemu` serves one and keeps the others waiting in silence,
   * `device` can be opened once.
   */
  readonly kind: 'listener' | 'qemu' | 'device';
  /** Whether each process can be seen by the others. */
  readonly hosts: readonly boolean[];
  readonly seed: number;
  readonly operations: readonly KeeperOperation[];
}

const QUIET_MS = 3000;
const SETTLING_MS = 600_000;
const WATCHED_MS = 1_800_000;

const failure = (code: string, cause?: Error): VproxyError => new VproxyError(code, `it was ${code}`, { cause });

class World {
  readonly clock = new ManualClock();
  readonly kind: KeeperLife['kind'];
  readonly hosts: Host[];
  isUp = true;
  /** Whether a vproxy answers in the guest. */
  answers = true;
  refuses = false;
  /** Its links, the oldest first. */
  readonly links: Host[] = [];
  takeovers = 0;
  #random: number;

  constructor({ kind, hosts, seed }: KeeperLife) {
    this.kind = kind;
    this.#random = seed >>> 0;
    this.hosts = hosts.map((isVisible, index) => new Host(this, index, isVisible));
  }

  /** From 0 to below 1. */
  random = (): number => {
    this.#random = (Math.imul(this.#random, 1_664_525) + 1_013_904_223) >>> 0;
    return this.#random / 2 ** 32;
  };

  get holder(): Host | undefined {
    return this.hosts.find(({ hasSession }) => hasSession);
  }

  /** Whether a link is served: a QEMU leaves the others to wait. */
  serves(host: Host): boolean {
    return this.kind !== 'qemu' || this.links[0] === host;
  }

  act({ what, index, amount }: KeeperOperation): void {
    const host = this.hosts[index % this.hosts.length] as Host;
    switch (what) {
      case 'pass':
        this.pass(10 ** ((amount % 600) / 100));
        break;
      case 'begin':
        host.begin();
        break;
      case 'kill':
        host.kill();
        break;
      case 'upgrade':
        host.upgrade(true);
        break;
      case 'upgrade-without-link':
        host.upgrade(false);
        break;
      case 'retry':
        host.retry();
        break;
      case 'cut':
        host.lose('channel-closed');
        break;
      case 'confuse':
        host.suspend();
        break;
      case 'reboot':
        this.reboot();
        break;
      case 'down':
        this.isUp = false;
        for (const each of this.hosts) each.lose('channel-closed');
        break;
      case 'up':
        this.isUp = true;
        break;
      case 'deafen':
        this.answers = false;
        for (const each of this.hosts) each.end('shutdown');
        break;
      case 'hear':
        this.answers = true;
        this.talk();
        break;
      case 'refuse':
        this.refuses = true;
        break;
      case 'admit':
        this.refuses = false;
    }
    this.check();
  }

  /** QEMU keeps its sockets meanwhile. */
  reboot(): void {
    for (const host of this.hosts) {
      if (this.kind === 'qemu') host.end('channel-closed');
      else host.lose('channel-closed');
    }
    this.talk();
  }

  /** Whoever is served may have a session now. */
  talk(): void {
    for (const host of this.links) host.talk();
  }

  pass(ms: number): void {
    const stepMs = Math.max(1, ms / 20);
    for (let passedMs = 0; passedMs < ms; passedMs += stepMs) {
      this.clock.advance(stepMs);
      this.check();
    }
  }

  check(): void {
    for (const host of this.hosts) host.check();
    assert(this.hosts.filter(({ hasSession }) => hasSession).length <= 1, 'two hosts have a session');
  }

  /** Everything works again, and nobody interferes: somebody gets the channel, and keeps it unless it is fought for in the dark. */
  settle(): void {
    Object.assign(this, { isUp: true, answers: true, refuses: false });
    this.talk();
    this.pass(SETTLING_MS);
    const alive = this.hosts.filter(({ isAlive, keeper }) => isAlive && keeper?.state !== 'failed');
    assert(alive.length === 0 || this.holder !== undefined, 'nobody has the channel');
    this.takeovers = 0;
    this.pass(WATCHED_MS);
    const hidden = alive.filter(({ isVisible }) => !isVisible).length;
    const mayFight = this.kind === 'listener' && hidden > 0 && alive.length > 1;
    const most = mayFight ? ((alive.length - 1) * WATCHED_MS) / 40_000 : 0;
    assert(this.takeovers <= most, `${this.takeovers} takeovers, not ${most}`);
  }
}

/** A process, and what its keeper's hands have done. */
class Host {
  readonly #world: World;
  readonly #pid: number;
  readonly isVisible: boolean;
  keeper: Keeper | null = null;
  /** Of its keeper. */
  #clock: ProcessClock;
  /** Of what is around it. */
  #events: ProcessClock;
  #isDialling = false;
  #searches = 0;
  #hasLink = false;
  /** How many it has had. */
  #links = 0;
  hasSession = false;
  #shown = '';
  #nextTryAtMs = Number.POSITIVE_INFINITY;

  constructor(world: World, index: number, isVisible: boolean) {
    this.#world = world;
    this.#pid = 100 + index;
    this.isVisible = isVisible;
    this.#clock = new ProcessClock(world.clock);
    this.#events = new ProcessClock(world.clock);
  }

  get isAlive(): boolean {
    return this.keeper !== null;
  }

  // ---- what happens to it ------------------------------------------------------------------------------------------

  begin(): void {
    if (this.isAlive) return;
    this.keeper = new Keeper('unix-connect:/run/vm', this.#clock, this.#hands(), undefined, this.#world.random);
    this.keeper.start();
  }

  kill(): void {
    this.keeper?.stop();
    this.#forgetProcess();
    this.#leave();
  }

  #forgetProcess(): void {
    this.#clock.die();
    this.#events.die();
    this.#clock = new ProcessClock(this.#world.clock);
    this.#events = new ProcessClock(this.#world.clock);
    this.keeper = null;
    this.#isDialling = false;
    this.#searches = 0;
    this.#nextTryAtMs = Number.POSITIVE_INFINITY;
  }

  upgrade(keepsLink: boolean): void {
    if (this.keeper === null) return;
    const record = structuredClone(this.keeper.record);
    const isRestored = keepsLink && this.hasSession;
    const isYielding = record.state === 'yielding';
    this.#forgetProcess();
    if (!isRestored) this.#leave();
    if (record.state === 'failed') return;
    this.keeper = new Keeper('unix-connect:/run/vm', this.#clock, this.#hands(), record, this.#world.random);
    if (isRestored) this.keeper.restore({ description: 'link' });
    else this.keeper.succeed();
    assert(!isYielding || this.#searches > 0, 'it takes the channel from whom it had been left to');
  }

  retry(): void {
    const { keeper } = this;
    if (keeper === null) return;
    const isDue = this.#nextTryAtMs < Number.POSITIVE_INFINITY;
    this.#nextTryAtMs = Number.POSITIVE_INFINITY;
    keeper.retryNow();
    assert(!isDue || this.#isDialling || this.#searches > 0 || this.#hasTimer, 'a retry did nothing');
  }

  /** The link is closed by its other end. */
  lose(code: string): void {
    if (!this.#hasLink) return;
    if (this.hasSession) this.end(code);
    this.#leave();
    this.keeper?.closed(failure(code));
  }

  /** The session ends, and the link stays open. */
  end(code: string): void {
    if (!this.hasSession) return;
    this.hasSession = false;
    this.keeper?.over(failure(code));
  }

  /** The session is out of step on its link, and resumes later. */
  suspend(): void {
    if (!this.hasSession) return;
    this.hasSession = false;
    this.keeper?.over(null);
    this.#later(() => this.#beginSession());
  }

  #leave(): void {
    const { links } = this.#world;
    this.#hasLink = false;
    this.hasSession = false;
    const place = links.indexOf(this);
    if (place < 0) return;
    links.splice(place, 1);
    this.#world.talk();
  }

  // ---- its hands ---------------------------------------------------------------------------------------------------

  #hands(): KeeperHands {
    return {
      dial: () => this.#dial(),
      close: () => {
        assert(this.#hasLink, 'it closes no link');
        const link = this.#links;
        this.#later(() => {
          if (link === this.#links) this.lose('shutdown');
        });
      },
      look: (why, known) => {
        if (why === 'next-step') assert(!this.#hasLink && !this.#isDialling, 'it searches with a link');
        this.#searches += 1;
        this.#later(() => {
          this.#searches -= 1;
          this.keeper?.looked(why, known !== null && this.#isRival(known.pid) ? known : this.#findRival());
        });
      },
      show: ({ state, nextTryMs }) => {
        assert(nextTryMs === undefined || !this.#hasLink, 'it waits for an attempt with a link');
        this.#shown = state;
        this.#nextTryAtMs = nextTryMs === undefined ? Number.POSITIVE_INFINITY : this.#world.clock.now() + nextTryMs;
      },
      tellQuiet: () => {
        this.#shown = 'waiting';
      },
      giveUp: () => assert.fail('it gives up'),
    };
  }

  #later(callback: () => void): void {
    this.#events.schedule(1 + this.#world.random() * 200, callback);
  }

  #dial(): void {
    assert(!this.#hasLink && !this.#isDialling, 'it dials twice');
    this.#isDialling = true;
    this.#later(() => {
      this.#isDialling = false;
      const { isUp, kind, links } = this.#world;
      if (!isUp) return this.keeper?.closed(failure('channel-missing'));
      if (kind === 'device' && links.length > 0) return this.keeper?.closed(failure('channel-busy'));
      this.#hasLink = true;
      this.#links += 1;
      links.push(this);
      this.keeper?.opened({ description: 'link', mayBeStuck: kind !== 'device' });
      this.talk();
      this.#events.schedule(QUIET_MS, () => {
        if (this.#hasLink && !this.hasSession) this.keeper?.quiet(null);
      });
      return undefined;
    });
  }

  /** Its other end answers if it is served and a vproxy is there. */
  talk(): void {
    if (!this.#hasLink || this.hasSession) return;
    this.#later(() => this.#beginSession());
  }

  #beginSession(): void {
    const world = this.#world;
    if (!this.#hasLink || this.hasSession || !world.isUp || !world.answers || !world.serves(this)) return;
    if (world.refuses) {
      this.keeper?.over(failure('auth-failed'));
      this.#events.schedule(5000, () => this.#beginSession());
      return;
    }
    const { holder } = world;
    if (holder !== undefined) {
      world.takeovers += 1;
      holder.end('channel-displaced');
      holder.lose('channel-closed');
    }
    this.hasSession = true;
    this.keeper?.begun();
  }

  #isRival(pid: number): boolean {
    const rival = this.#world.hosts.find((host) => host.#pid === pid);
    return rival?.isAlive === true && rival.hasSession;
  }

  #findRival(): Rival | null {
    const rival = this.#world.hosts.find((host) => host !== this && host.isVisible && this.#isRival(host.#pid));
    return rival === undefined ? null : { pid: rival.#pid, name: 'host', hasLeft: () => Promise.resolve(false) };
  }

  // ---- what must hold ----------------------------------------------------------------------------------------------

  /** Whether its keeper waits for a timer. */
  get #hasTimer(): boolean {
    return this.#clock.pending > 0;
  }

  check(): void {
    const { keeper } = this;
    if (keeper === null || keeper.state === 'failed') return;
    const { state } = keeper;
    assert.equal(state === 'established', this.hasSession, `${state}, and the session says ${this.hasSession}`);
    assert.equal(
      ['linked', 'established', 'suspended'].includes(state),
      this.#hasLink,
      `${state} with link: ${this.#hasLink}`,
    );
    assert.equal(state === 'opening', this.#isDialling, `${state} while it dials: ${this.#isDialling}`);
    if (state === 'yielding') assert.equal(this.#shown, 'backing-off');
    const isIdle = !this.#isDialling && !this.#hasLink && this.#searches === 0;
    assert(!isIdle || this.#hasTimer, `nothing follows: ${state}`);
    const overdueMs = this.#world.clock.now() - this.#nextTryAtMs;
    assert(!isIdle || overdueMs <= 0, `its next attempt is ${overdueMs} ms late`);
  }
}

/** Lives one life. Throws if something does not hold; returns the number of takeovers. */
export function liveKeepers(life: KeeperLife): number {
  const world = new World(life);
  for (const host of world.hosts) host.begin();
  let takeovers = 0;
  for (const operation of life.operations) world.act(operation);
  takeovers += world.takeovers;
  world.settle();
  return takeovers + world.takeovers;
}
