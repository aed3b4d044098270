/** What became of a channel since it was added: its state, its sessions, and what went over it. */
import { isErrorCode, type VproxyError } from '../errors.js';
import type { Session, SessionCounters } from '../session/session.js';
import type { ChannelState, ChannelTotals, SessionHistory } from '../status/types.js';

/** So many ended sessions are remembered one by one. */
const MAX_RECENT = 16;

/** The name under which ends with a code that is not in the table are counted: peers could invent any number of them. */
const OTHER_CODE = 'other';

const NOTHING: SessionCounters = {
  sentBytes: 0,
  receivedBytes: 0,
  sentFrames: 0,
  receivedFrames: 0,
  stallMs: 0,
  streamsOpened: 0,
  streamsFailed: 0,
};

/** Kept by the channel as things happen; `nowMs` is a time of its clock. */
export class ChannelRecord {
  #state: ChannelState = 'opening';
  #since = new Date();
  #detail: string | null = null;
  #nextTryAtMs: number | null = null;
  #sessionCount = 0;
  readonly #ends = new Map<string, number>();
  #recent: SessionHistory['recent'] = [];
  /** Of the sessions that are over. */
  #past = NOTHING;

  get state(): ChannelState {
    return this.#state;
  }

  /** Notes what the channel does now. */
  enter(state: ChannelState, detail: string | null, nextTryMs: number | null, nowMs: number): void {
    if (state !== this.#state) this.#since = new Date();
    this.#state = state;
    this.#detail = detail;
    this.#nextTryAtMs = nextTryMs === null ? null : nowMs + nextTryMs;
  }

  countSession(): void {
    this.#sessionCount += 1;
  }

  noteEnd(session: Session, { code, message }: VproxyError): void {
    const key = isErrorCode(code) ? code : OTHER_CODE;
    this.#ends.set(key, (this.#ends.get(key) ?? 0) + 1);
    const end = { at: new Date().toISOString(), ageMs: Math.round(session.ageMs), code, message };
    this.#recent = [end, ...this.#recent].slice(0, MAX_RECENT);
    this.#past = sum(this.#past, session.counters);
  }

  /** The state as it stands in a status. */
  describe(nowMs: number) {
    return {
      state: this.#state,
      since: this.#since.toISOString(),
      detail: this.#detail,
      nextTryMs: this.#nextTryAtMs === null ? null : Math.max(0, Math.round(this.#nextTryAtMs - nowMs)),
    };
  }

  get history(): SessionHistory {
    return { sessions: this.#sessionCount, ends: Object.fromEntries(this.#ends), recent: this.#recent };
  }

  /** All sessions together, the one of the moment included. */
  totals(session: Session | null, skippedBytes: number): ChannelTotals {
    const all = session === null ? this.#past : sum(this.#past, session.counters);
    return { ...all, stallMs: Math.round(all.stallMs), skippedBytes };
  }
}

function sum(a: SessionCounters, b: SessionCounters): SessionCounters {
  return {
    sentBytes: a.sentBytes + b.sentBytes,
    receivedBytes: a.receivedBytes + b.receivedBytes,
    sentFrames: a.sentFrames + b.sentFrames,
    receivedFrames: a.receivedFrames + b.receivedFrames,
    stallMs: a.stallMs + b.stallMs,
    streamsOpened: a.streamsOpened + b.streamsOpened,
    streamsFailed: a.streamsFailed + b.streamsFailed,
  };
}
