/** The sessions on one channel: its state with or without a session, the log lines about that, and the history of sessions. */

import type { ChannelAddress } from '../../channel/address/address.js';
import type { ChannelTraits } from '../../channel/kind.js';
import { countedCode, type VproxyError } from '../../errors.js';
import { type Log, type LogEvent, makeEvent } from '../../events.js';
import type { SessionSource } from '../../forward/session-source.js';
import { REMEDIES, remedyFor } from '../../remedies.js';
import type { Agreement } from '../../session/opening/agreement.js';
import type { Session } from '../../session/session.js';
import type { SessionLoop } from '../../session/session-loop.js';
import type { SessionCounters } from '../../session/session-state.js';
import type { ChannelState, ChannelTotals, SessionHistory } from '../../status/types.js';
import type { Clock } from '../../util/clock.js';
import { escapeText } from '../../util/escape.js';
import { formatCount } from '../../util/units.js';
import type { Shown } from './keeper.js';

interface ChannelSessionsOptions {
  readonly channel: ChannelAddress;
  /** Holds the newest session; another link may still have an older one, or wait for one. */
  readonly source: SessionSource;
  readonly clock: Clock;
  readonly log: Log;
  /** Bytes that belonged to no session, on all links. */
  readonly skippedBytes: () => number;
  /** A session was established and needs `start`; or it was restored and is already started. */
  readonly onSession: (session: Session, isRestored: boolean) => void;
  /** A session was established, suspended, resumed or ended; or the channel waits for its next attempt. */
  readonly onChanged: () => void;
  /** A session ended and that matters to the channel: the end of a stranger's session on a listening channel does not. */
  readonly onEnded: (reason: VproxyError) => void;
}

export interface Whereabouts {
  /** Its link, or the last one that it had. */
  readonly link: string;
  /** When it lost its link, by the clock; null if it has one. */
  readonly suspendedAtMs: number | null;
}

export interface ChannelMeasures {
  readonly record: Pick<ChannelRecordState, 'name' | 'sessions' | 'ends'>;
  readonly totals: ChannelTotals;
  /** Null between sessions. */
  readonly session: Session | null;
}

/** Records and logs what the supervisor of a channel and the session loops on its links report. */
export class ChannelSessions {
  readonly record: ChannelRecord;
  readonly log: Log;
  readonly #options: ChannelSessionsOptions;
  /** The established sessions, with or without a link. */
  readonly #whereabouts = new Map<Session, Whereabouts>();
  /** What the channel itself does, which the state shows again once a suspended session has ended. */
  #beneath: { readonly state: ChannelState; readonly detail: string | null } = OPENING;

  /** `record` is a predecessor's, if any. */
  constructor(options: ChannelSessionsOptions, record?: ChannelRecordState) {
    this.#options = options;
    this.record = new ChannelRecord(options.clock, record);
    this.log = options.log;
  }

  measure(): ChannelMeasures {
    const session = this.#options.source.current;
    return { record: this.record.state, totals: this.record.totals(session, this.#options.skippedBytes()), session };
  }

  /** The whereabouts of a session; null if it has ended. */
  whereaboutsOf(session: Session): Whereabouts | null {
    return this.#whereabouts.get(session) ?? null;
  }

  /** Follows the sessions on the link `description`. */
  follow(loop: SessionLoop, description: string): void {
    loop.on('session', (session) => this.#begin(session, description));
    loop.on('ended', (session, reason) => this.end(session, reason, description));
    loop.on('suspended', (session, reason) => this.#suspend(session, reason, description));
    loop.on('resumed', (session, againBytes) => this.#resume(session, againBytes, description));
    loop.on('echo', () => {
      const message = `${description} echoes everything sent: is the line raw, and is vproxy running at the other end?`;
      this.show({ state: 'waiting', event: makeEvent('channel-echo', message, { link: description }) });
    });
  }

  /** No answer on the link `description`; `stranger`: what is there instead of a vproxy, if that can be told. */
  tellQuiet(description: string, skippedBytes: number, stranger: string | null): void {
    const message =
      stranger === null
        ? `no answer on ${description}: no vproxy at the other end yet, or another process has the channel`
        : `no vproxy answers on ${description}: ${stranger}`;
    // Logged once until there is a session: the text is the stranger's, which could vary it to fill the log.
    const { told } = this.record.state;
    const event = makeEvent('channel-waiting', message, { link: description, skippedBytes });
    if (stranger !== null && told.hasStranger) this.enter('waiting', message);
    else this.show({ state: 'waiting', event });
    told.hasStranger ||= stranger !== null;
  }

  /** Records the state of a channel without a session; with one, the session determines the state. */
  enter(state: ChannelState, detail: string | null = null, nextTryMs: number | null = null): void {
    const { current } = this.#options.source;
    this.#beneath = { state, detail };
    if (current === null) this.record.enter(state, detail, nextTryMs);
    else if (current.isSuspended) this.record.willTryIn(nextTryMs);
  }

  /** As `enter`, with a line for the log. */
  show({ state, event, detail, nextTryMs }: Shown): void {
    this.enter(state, detail ?? event?.message ?? null, nextTryMs ?? null);
    if (event === null) return;
    this.tell(event);
    this.#options.onChanged();
  }

  /** Logs a line about the channel's state, unless it was the last one. */
  tell(event: LogEvent): void {
    const line = `${event.event} ${event.message}`;
    const { told } = this.record.state;
    if (line === told.line) return;
    told.line = line;
    this.log(event);
  }

  #begin(session: Session, link: string): void {
    this.record.state.told = newTold();
    const { agent, name } = session.agreement.peer;
    const message = `session established with ${describePeer(session)} on ${link}`;
    this.log(makeEvent('session-established', message, { link, agent, name }));
    this.record.countSession();
    this.record.enter('established');
    this.#register(session, { link, suspendedAtMs: null }, false);
    if (session.isOver) return;
    this.#options.source.provide(session);
    this.#options.onChanged();
  }

  /** Takes over a session from a predecessor. Its link may not have been handed over. */
  restore(session: Session, { link, suspendedAtMs }: Whereabouts): void {
    const isSuspended = session.isSuspended;
    if (isSuspended) this.record.enter('suspended', suspensionOf(session, link, null));
    const sinceMs = isSuspended ? (suspendedAtMs ?? this.#options.clock.now()) : null;
    this.#register(session, { link, suspendedAtMs: sinceMs }, true);
    this.#options.source.provide(session);
  }

  #register(session: Session, whereabouts: Whereabouts, isRestored: boolean): void {
    this.#options.source.setCurrent(session);
    this.#whereabouts.set(session, whereabouts);
    session.once('draining', ({ message }) => {
      if (this.#options.source.current === session) this.record.enter('draining', message);
    });
    this.#options.onSession(session, isRestored);
  }

  #suspend(session: Session, reason: VproxyError | null, link: string): void {
    this.#whereabouts.set(session, { link, suspendedAtMs: this.#options.clock.now() });
    this.#beneath = OPENING;
    const message = suspensionOf(session, link, reason);
    const streams = session.streams.size;
    if (this.#options.source.current === session) this.record.enter('suspended', message);
    this.log(makeEvent('session-suspended', message, { link, streams }));
    this.#options.onChanged();
  }

  #resume(session: Session, againBytes: number, link: string): void {
    const nowMs = this.#options.clock.now();
    const suspendedMs = Math.round(nowMs - (this.#whereabouts.get(session)?.suspendedAtMs ?? nowMs));
    this.#whereabouts.set(session, { link, suspendedAtMs: null });
    this.record.state.told.line = '';
    this.record.countResumption(againBytes);
    this.record.enter(session.isDraining ? 'draining' : 'established');
    const message = `session on ${link} resumed after ${suspendedMs} ms; ${againBytes} bytes resent`;
    this.log(makeEvent('session-resumed', message, { link, suspendedMs, againBytes, streams: session.streams.size }));
    this.#options.source.provide(session);
    this.#options.onChanged();
  }

  /** A session ended; `link` is its link, by default the last one that it had. */
  end(session: Session, reason: VproxyError, link = this.#whereabouts.get(session)?.link ?? ''): void {
    const isSuspended = typeof this.#whereabouts.get(session)?.suspendedAtMs === 'number';
    this.#whereabouts.delete(session);
    const { channel, source, onChanged, onEnded } = this.#options;
    source.withdraw(session);
    const { code } = reason;
    const { told } = this.record.state;
    const { state, detail, message, refusal, isLastWord } = judgeEnd(session, reason, link, channel);
    if (isSuspended) this.enter(this.#beneath.state, this.#beneath.detail, this.record.describe().nextTryMs);
    else this.enter(state, detail);
    const level = refusal === null ? 'info' : refusal === told.refusal ? 'debug' : 'warn';
    told.refusal = refusal ?? told.refusal;
    this.log(makeEvent('session-ended', message, { link, code, ageMs: Math.round(session.ageMs) }, level));
    this.record.noteEnd(session, reason);
    onChanged();
    if (isLastWord) onEnded(reason);
  }
}

const OPENING = { state: 'opening', detail: null } as const;

/** What the end of a session means to its channel. */
interface Judgement {
  readonly state: ChannelState;
  readonly detail: string | null;
  readonly message: string;
  /** For a refusal: what is warned of once, until there is a session, with its remedy if it has one; otherwise null. */
  readonly refusal: string | null;
  /** Whether it matters to the channel: the end of a stranger's session on a listening channel does not. */
  readonly isLastWord: boolean;
}

function judgeEnd(
  session: Pick<Session, 'agreement' | 'wasEstablished'>,
  { code, message: reason }: VproxyError,
  link: string,
  { kind: { mode }, traits }: ChannelAddress,
): Judgement {
  const isUnproved = code === 'auth-failed';
  const isRefused = isUnproved || code === 'version-mismatch';
  const isBusy = code === 'channel-busy';
  const advice = isUnproved ? adviceFor(session.agreement, traits) : isRefused ? remedyFor(code) : null;
  const who = isBusy && mode === 'listen' ? `refused ${describePeer(session)}: ` : '';
  const what = `${who}${escapeText(reason, 512)}${advice === null ? '' : `; ${advice}`}`;
  const message = `session on ${link} ended: ${what} (${code})`;
  const isOfStranger = code === 'channel-displaced' || isBusy;
  return {
    state: isUnproved ? 'auth-failed' : 'opening',
    detail: isRefused ? what : null,
    message,
    // A peer that is refused because of another one comes back over other links.
    refusal: isBusy ? what : isRefused ? (advice ?? what) : null,
    isLastWord: mode === 'dial' ? session.wasEstablished || isRefused : session.wasEstablished && !isOfStranger,
  };
}

/** `host2, vproxy 0.1.0`. */
function describePeer({ agreement: { peer } }: Pick<Session, 'agreement'>): string {
  return [peer.name, peer.agent].flatMap((text) => (text === null ? [] : escapeText(text, 80))).join(', ');
}

/** The message that a session lost its link or, with a reason, is out of step on it. */
function suspensionOf({ streams }: Session, link: string, reason: VproxyError | null): string {
  const waiting = `waiting to resume (${formatCount(streams.size, 'stream')})`;
  if (reason === null) return `session on ${link} lost; ${waiting}`;
  const why = `${escapeText(reason.message, 512)} (${reason.code})`;
  return `session on ${link} out of step: ${why}; ${waiting}`;
}

/** Advice for two sides that reject each other; null where the reason of the `auth-failed` already says it. */
function adviceFor({ self, peer }: Agreement, { tls }: ChannelTraits): string | null {
  if (self.tls !== peer.tls) return null;
  if (tls === 'cert') return 'check tls=, ca=, cert=, key=, peer= and --key on both sides';
  if (self.auth === null) return "give this side the peer's key with --key FILE";
  if (peer.auth === null)
    return tls === null ? "give the peer this side's key with --key FILE" : 'set the same tls= on both sides';
  return REMEDIES.anything['auth-failed'];
}

/** How many ended sessions are remembered individually. */
const MAX_RECENT = 16;

const NOTHING: SessionCounters = {
  sentBytes: 0,
  receivedBytes: 0,
  sentFrames: 0,
  receivedFrames: 0,
  stallMs: 0,
  streamsOpened: 0,
  streamsFailed: 0,
};

/** What was logged about a channel since its last session, so that only changes are logged. */
interface Told {
  /** The last line about its state. */
  line: string;
  /** Whether a stranger was named. */
  hasStranger: boolean;
  /** The last refusal, by either side. */
  refusal: string;
}

const newTold = (): Told => ({ line: '', hasStranger: false, refusal: '' });

/** The history of a channel since it was added; handed over to a successor. */
export interface ChannelRecordState {
  told: Told;
  name: ChannelState;
  /** ISO 8601. */
  since: string;
  detail: string | null;
  /** Why there is no session, also during another attempt; null if there is one, or if nothing is known yet. */
  whyDown: string | null;
  /** When the next attempt is due, by the clock; null if none is. */
  nextTryAtMs: number | null;
  sessions: number;
  /** Number of sessions ended, by code. */
  readonly ends: Map<string, number>;
  recent: SessionHistory['recent'];
  /** The counters of ended sessions. */
  past: SessionCounters;
  resumptions: number;
  resentBytes: number;
}

const newRecord = (): ChannelRecordState => ({
  told: newTold(),
  name: 'opening',
  since: new Date().toISOString(),
  detail: null,
  whyDown: null,
  nextTryAtMs: null,
  sessions: 0,
  ends: new Map(),
  recent: [],
  past: NOTHING,
  resumptions: 0,
  resentBytes: 0,
});

/** Keeps the history of a channel. */
export class ChannelRecord {
  readonly state: ChannelRecordState;
  readonly #clock: Clock;

  constructor(clock: Clock, state = newRecord()) {
    this.#clock = clock;
    this.state = state;
  }

  enter(name: ChannelState, detail: string | null = null, nextTryMs: number | null = null): void {
    const { state } = this;
    if (name !== state.name) state.since = new Date().toISOString();
    state.name = name;
    state.detail = detail;
    state.whyDown = name === 'established' ? null : (detail ?? state.whyDown);
    this.willTryIn(nextTryMs);
  }

  /** Records when the next attempt is due; null for none. */
  willTryIn(nextTryMs: number | null): void {
    this.state.nextTryAtMs = nextTryMs === null ? null : this.#clock.now() + nextTryMs;
  }

  countSession(): void {
    this.state.sessions += 1;
  }

  /** Counts a session that resumed on another link and resent `againBytes`. */
  countResumption(againBytes: number): void {
    this.state.resumptions += 1;
    this.state.resentBytes += againBytes;
  }

  noteEnd(session: Session, { code, message }: VproxyError): void {
    const { state } = this;
    const key = countedCode(code);
    state.ends.set(key, (state.ends.get(key) ?? 0) + 1);
    const end = { at: new Date().toISOString(), ageMs: Math.round(session.ageMs), code, message };
    state.recent = [end, ...state.recent].slice(0, MAX_RECENT);
    state.past = sum(state.past, session.counters);
  }

  /** The state, in the form of a status. */
  describe() {
    const { name, since, detail, nextTryAtMs } = this.state;
    const nextTryMs = nextTryAtMs === null ? null : Math.max(0, Math.round(nextTryAtMs - this.#clock.now()));
    return { state: name, since, detail, nextTryMs };
  }

  get history(): SessionHistory {
    const { sessions, ends, recent } = this.state;
    return { sessions, ends: Object.fromEntries(ends), recent };
  }

  /** The totals of all sessions, including the current one. */
  totals(session: Session | null, skippedBytes: number): ChannelTotals {
    const { past, resumptions, resentBytes } = this.state;
    const all = session === null ? past : sum(past, session.counters);
    // Named one by one: a spread followed by other fields takes a hundred times as long, for each channel of a page of metrics.
    return {
      sentBytes: all.sentBytes,
      receivedBytes: all.receivedBytes,
      sentFrames: all.sentFrames,
      receivedFrames: all.receivedFrames,
      skippedBytes,
      stallMs: Math.round(all.stallMs),
      streamsOpened: all.streamsOpened,
      streamsFailed: all.streamsFailed,
      resumptions,
      resentBytes,
    };
  }
}

const sum = (a: SessionCounters, b: SessionCounters): SessionCounters => ({
  sentBytes: a.sentBytes + b.sentBytes,
  receivedBytes: a.receivedBytes + b.receivedBytes,
  sentFrames: a.sentFrames + b.sentFrames,
  receivedFrames: a.receivedFrames + b.receivedFrames,
  stallMs: a.stallMs + b.stallMs,
  streamsOpened: a.streamsOpened + b.streamsOpened,
  streamsFailed: a.streamsFailed + b.streamsFailed,
});
