/**
 * Decides when a channel that this side dials is opened, closed and given up, how long it waits, and when it is left to another
 * process. It does no I/O: it is told what happens, and tells its hands what to do.
 */
import { successorOf, type VproxyError } from '../../errors.js';
import { type LogEvent, makeEvent } from '../../events.js';
import type { Link } from '../../link/link.js';
import { SHORT_SESSION_MS } from '../../session/opening/opening-pause.js';
import { Backoff, type BackoffOptions, type BackoffState, type CancelTimer, type Clock } from '../../util/clock.js';
import { formatRival, type Rival } from './rival.js';

/** The states of a channel that this side dials, with their possible successors. */
export const KEEPER_STATES = {
  opening: ['linked', 'backing-off', 'failed', 'stopped'],
  /** A link is open, without a session. */
  linked: ['established', 'opening', 'backing-off', 'failed', 'stopped'],
  established: ['linked', 'suspended', 'stopped'],
  /** The session is out of step on the link, or has left it. */
  suspended: ['established', 'linked', 'backing-off', 'failed', 'stopped'],
  /** Waits before the next attempt, or looks for a rival first. */
  'backing-off': ['opening', 'yielding', 'stopped'],
  /** Waits until another process has released the channel. */
  yielding: ['opening', 'stopped'],
  /** It can never work, or never again. */
  failed: ['stopped'],
  stopped: [],
} as const;

type KeeperState = keyof typeof KEEPER_STATES;

/** The growing delays, each with the reason for it. */
export const WAITS = {
  /** There was no link, or no session on it, or a long one. Both sides are often started together, and an attempt costs little. */
  lost: { firstMs: 10, maxMs: 5000 },
  /** The last session was short or refused. A peer that lets each one be established and then drops it must cost little. */
  short: { firstMs: 100, maxMs: 5000 },
  /** A side that cannot be seen from here displaced this one. The two could displace each other forever, so ever less often. */
  displaced: { firstMs: 1000, maxMs: 60_000 },
  /** A rival has the channel, and may leave. */
  yielding: { firstMs: 100, maxMs: 5000 },
} as const satisfies Record<string, BackoffOptions>;

type Wait = keyof typeof WAITS;

/** Delay before looking for the process that took the channel: it opens its channels before its control socket. */
const SETTLE_MS = 300;

/** After holding the channel this long (ms), a takeover no longer counts as part of a fight. */
const FOUGHT_MS = 5 * WAITS.displaced.maxMs;

/** Minimum delay after a search without result, in milliseconds: a search may look at every process. */
const SEARCH_MS = 10_000;

/** The state of a keeper, which a successor process takes. */
export interface KeeperRecord {
  state: KeeperState;
  readonly waits: Readonly<Record<Wait, BackoffState>>;
  /** Whether a link was closed because its other end may be stuck, and no session was established since. */
  hasRedialled: boolean;
  /** The time on the clock when the session was established or resumed; null without a session. */
  begunAtMs: number | null;
}

const firstOf = (name: Wait): BackoffState => ({ nominalMs: WAITS[name].firstMs });

const newRecord = (): KeeperRecord => ({
  state: 'opening',
  waits: {
    lost: firstOf('lost'),
    short: firstOf('short'),
    displaced: firstOf('displaced'),
    yielding: firstOf('yielding'),
  },
  hasRedialled: false,
  begunAtMs: null,
});

/** What a search is for: to name who is behind a silent link, or to decide the next step. */
type SearchReason = 'silence' | 'next-step';

/** Does what a keeper decides. What follows calls the keeper again, in a later turn. */
export interface KeeperHands {
  /** `opened` or `closed` follows. */
  dial(): void;
  /** Logs `event`, and closes the link; `closed` follows. */
  close(event: LogEvent): void;
  /** Looks whether `known` is still there, or else for another rival, which may have caused `reason` (null: silence); `looked` follows. */
  look(why: SearchReason, known: Rival | null, reason: VproxyError | null): void;
  show(shown: Shown): void;
  /** The peer does not answer on the link, maybe a stranger does. */
  tellQuiet(): void;
  /** The channel can never work, or never again. */
  giveUp(reason: VproxyError): void;
}

/** The state of the channel for its status, and a line to log unless it was the last one. */
export interface Shown {
  readonly state: 'opening' | 'waiting' | 'backing-off';
  readonly event: LogEvent | null;
  /** Default: the message of the event. */
  readonly detail?: string;
  readonly nextTryMs?: number;
}

/** What follows a wait or a search while there is no link. */
type Step =
  | { readonly name: 'retry'; readonly reason: VproxyError; readonly waitMs: number }
  /** The process that took the channel may be found now. */
  | { readonly name: 'settle'; readonly reason: VproxyError }
  /** The process that took it was not found. */
  | { readonly name: 'retake'; readonly reason: VproxyError }
  /** The rival may have left. */
  | { readonly name: 'return'; readonly reason: null };

const RETURN: Step = { name: 'return', reason: null };

/** Call `start`, `restore` or `succeed` once, first. After `stop` it does nothing. */
export class Keeper {
  readonly record: KeeperRecord;
  readonly #text: string;
  readonly #clock: Clock;
  readonly #hands: KeeperHands;
  readonly #random: () => number;
  /** Of the link. */
  #description = '';
  /** How the last session on the link ended, if there was one, and why. */
  #outcome: 'lost' | 'short' | 'displaced' | 'stuck' = 'lost';
  #end: VproxyError | null = null;
  #mayBeStuck = false;
  #rival: Rival | null = null;
  /** When the last search ended, by the clock; null if none did since the last session. */
  #searchedAtMs: number | null = null;
  #step: Step = RETURN;
  /** Null if it does not wait. */
  #cancelWait: CancelTimer | null = null;

  /** `text` is the address of the channel; `record` a predecessor's, if any; `random` returns numbers from 0 to 1. */
  constructor(text: string, clock: Clock, hands: KeeperHands, record = newRecord(), random = Math.random) {
    this.#text = text;
    this.#clock = clock;
    this.#hands = hands;
    this.record = record;
    this.#random = random;
  }

  get state(): KeeperState {
    return this.record.state;
  }

  #enter(next: KeeperState): void {
    this.record.state = successorOf('the keeper', KEEPER_STATES, this.state, next);
  }

  /** Who hears of something may have stopped it. */
  #isStopped(): boolean {
    return this.state === 'stopped';
  }

  #backoff(name: Wait): Backoff {
    return new Backoff({ ...WAITS[name], random: this.#random }, this.record.waits[name]);
  }

  #wait(delayMs: number): void {
    this.#cancelWait = this.#clock.schedule(delayMs, () => this.#goOn());
  }

  // ---- the beginning and the end -----------------------------------------------------------------------------------

  start(): void {
    if (this.state === 'stopped') return;
    this.#hands.show({ state: 'opening', event: null });
    if (!this.#isStopped()) this.#hands.dial();
  }

  /** Instead of `start`: a predecessor handed over its link with an established session. */
  restore({ description }: Pick<Link, 'description'>): void {
    this.#description = description;
  }

  /** Instead of `start`: a predecessor had no link. A channel that it left to another process still belongs to that one. */
  succeed(): void {
    this.record.state = 'backing-off';
    this.record.begunAtMs = null;
    this.#look();
  }

  stop(): void {
    this.#cancelWait?.();
    if (this.state !== 'stopped') this.#enter('stopped');
  }

  // ---- one link ----------------------------------------------------------------------------------------------------

  opened({ description, mayBeStuck = false }: Pick<Link, 'description' | 'mayBeStuck'>): void {
    if (this.state === 'stopped') return;
    this.#enter('linked');
    this.#description = description;
    // Nor is the one after a redialled link stuck: its peer is just not there yet.
    this.#mayBeStuck = mayBeStuck && !this.record.hasRedialled;
  }

  /** A session was established or resumed. */
  begun(): void {
    if (this.state === 'stopped') return;
    this.#enter('established');
    this.record.begunAtMs = this.#clock.now();
    this.record.hasRedialled = false;
    this.#searchedAtMs = null;
    this.#rival = null;
    this.#backoff('lost').reset();
  }

  /** The session ended, maybe before it was established; or, with null, it left the link or is out of step. */
  over(end: VproxyError | null): void {
    if (this.state === 'stopped') return;
    const { begunAtMs } = this.record;
    const ageMs = begunAtMs === null ? 0 : this.#clock.now() - begunAtMs;
    this.record.begunAtMs = null;
    this.#mayBeStuck = false;
    if (ageMs >= SHORT_SESSION_MS) this.#backoff('short').reset();
    if (ageMs >= FOUGHT_MS) this.#backoff('displaced').reset();
    this.#end = end;
    this.#outcome = end?.code === 'channel-displaced' ? 'displaced' : ageMs < SHORT_SESSION_MS ? 'short' : 'lost';
    if (end === null) this.#enter('suspended');
    else if (this.state !== 'linked') this.#enter('linked');
  }

  /** The peer does not answer. */
  quiet(stranger: string | null): void {
    if (this.state === 'stopped') return;
    if (this.#rival === null) this.#hands.tellQuiet();
    if (this.#isStopped()) return;
    if (this.#isWorthALook(null)) this.#hands.look('silence', this.#rival, null);
    const mayBeStuck = this.#mayBeStuck && stranger === null;
    this.#mayBeStuck = false;
    if (!mayBeStuck) return;
    this.#outcome = 'stuck';
    this.record.hasRedialled = true;
    const message = `reopening ${this.#description}: its other end may be stuck`;
    this.#hands.close(makeEvent('channel-redialled', message, { link: this.#description }));
  }

  /** The channel could not be opened, or its link has closed. */
  closed(gone: VproxyError): void {
    if (this.state === 'stopped') return;
    const [outcome, end] = [this.#outcome, this.#end];
    this.#outcome = 'lost';
    this.#end = null;
    // The end of a displaced or refused session says more.
    const reason = end !== null && (outcome === 'displaced' || end.code === 'channel-busy') ? end : gone;
    if (outcome === 'stuck') this.#dial();
    else if (!gone.row.retry) this.#giveUp(gone);
    else if (outcome === 'displaced') this.#giveWay(reason);
    else this.#backOff(outcome, reason);
  }

  #giveUp(reason: VproxyError): void {
    this.#enter('failed');
    this.#hands.giveUp(reason);
  }

  // ---- between links -----------------------------------------------------------------------------------------------

  #dial(): void {
    this.#enter('opening');
    this.start();
  }

  #backOff(name: 'lost' | 'short', reason: VproxyError): void {
    this.#enter('backing-off');
    this.#step = { name: 'retry', reason, waitMs: this.#backoff(name).next() };
    const mayBeTaken = reason.code === 'channel-busy' || (reason.code === 'channel-closed' && name === 'short');
    if (mayBeTaken) this.#look();
    else this.#waitToRetry(reason, this.#step.waitMs, null);
  }

  #giveWay(reason: VproxyError): void {
    this.#enter('backing-off');
    this.#step = { name: 'settle', reason };
    this.#wait(SETTLE_MS);
  }

  /** After a wait. */
  #goOn(): void {
    this.#cancelWait = null;
    if (this.#step.name === 'retry') this.#dial();
    else this.#look();
  }

  /** The operator wants an attempt now. */
  retryNow(): void {
    for (const name of ['lost', 'short', 'displaced'] as const) this.#backoff(name).reset();
    if (this.#step.name === 'retry') this.#step = { ...this.#step, waitMs: 0 };
    if (this.#cancelWait === null || this.state === 'stopped') return;
    this.#cancelWait();
    this.#goOn();
  }

  #look(): void {
    const { reason } = this.#step;
    if (this.#isWorthALook(reason)) this.#hands.look('next-step', this.#rival, reason);
    else this.#decide(null);
  }

  /** Displacement proves that there is a rival, even if a search has not seen it yet. */
  #isWorthALook(reason: VproxyError | null): boolean {
    const isTooSoon = this.#searchedAtMs !== null && this.#clock.now() - this.#searchedAtMs < SEARCH_MS;
    return this.#rival !== null || !isTooSoon || reason?.code === 'channel-displaced';
  }

  looked(why: SearchReason, rival: Rival | null): void {
    if (this.state === 'stopped') return;
    this.#rival = rival;
    this.#searchedAtMs = this.#clock.now();
    if (why === 'next-step') this.#decide(rival);
    else if (rival !== null && this.state === 'linked') this.#nameRival(rival);
  }

  /** QEMU serves one process, and keeps the others waiting in silence. */
  #nameRival(rival: Rival): void {
    const message = `no answer on ${this.#description}: ${formatRival(rival)} has the channel`;
    this.#hands.show({ state: 'waiting', event: takenEvent(message, rival) });
  }

  #decide(rival: Rival | null): void {
    const step = this.#step;
    if (step.name === 'retry' && step.waitMs > 0) this.#waitToRetry(step.reason, step.waitMs, rival);
    else if (step.name === 'retry') this.#dial();
    else if (rival !== null) this.#yieldTo(rival);
    else if (step.name === 'settle') this.#waitToRetake(step.reason);
    else this.#dial();
  }

  /** The other one is probably a process of another machine or user. */
  #waitToRetake(reason: VproxyError): void {
    this.#step = { name: 'retake', reason };
    this.#waitToRetry(reason, this.#backoff('displaced').next(), null);
  }

  #waitToRetry({ code, message }: VproxyError, waitMs: number, rival: Rival | null): void {
    const detail = rival === null ? message : `${message}: ${formatRival(rival)} has it`;
    const event = makeEvent('channel-waiting', `${detail}; retrying`, { code });
    // First: who hears of it may stop the channel.
    this.#wait(waitMs);
    this.#hands.show({ state: 'backing-off', event, detail, nextTryMs: waitMs });
  }

  #yieldTo(rival: Rival): void {
    if (this.state !== 'yielding') {
      this.#enter('yielding');
      this.#backoff('yielding').reset();
    }
    this.#step = RETURN;
    const nextTryMs = this.#backoff('yielding').next();
    const message = `${formatRival(rival)} took the channel ${this.#text}; waiting until it releases it`;
    this.#wait(nextTryMs);
    this.#hands.show({ state: 'backing-off', event: takenEvent(message, rival), nextTryMs });
  }
}

const takenEvent = (message: string, { pid, name }: Rival): LogEvent =>
  makeEvent('channel-taken', message, { pid, name });
