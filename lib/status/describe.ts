/**
 * What a running proxy says of itself: plain values, such as they stand in JSON. Times are in milliseconds, points in
 * time are ISO 8601 texts in UTC, amounts are in bytes, rates in bytes a second. What a peer said is as it said it:
 * whoever shows it escapes it.
 */

import type { ChannelTraits } from '../channel/kind.js';
import type { Direction } from '../forward/endpoint-kind.js';
import type { StreamWait } from '../session/local-end.js';
import type { Session } from '../session/session.js';

/** Every state of a channel. */
export const CHANNEL_STATES = [
  'opening',
  'waiting',
  'backing-off',
  'auth-failed',
  'established',
  'draining',
  'failed',
] as const;

/**
 * `opening`: the channel is being opened, or is open and its peer has not answered yet. `waiting`: for somebody else,
 * the host or the peer. `backing-off`: the last attempt failed, and another one follows by itself. `auth-failed`: the
 * two sides have no key in common, or not the same protection; it is tried again ever more seldom. `established`: there
 * is a session. `draining`: no new streams; those that are open may finish. `failed`: it can never work.
 */
export type ChannelState = (typeof CHANNEL_STATES)[number];

/** One channel. */
export interface ChannelStatus {
  /** Its name in this process. */
  readonly label: string;
  /** The label of the group that it was made for; null for one that was asked for itself. */
  readonly group: string | null;
  /** Its canonical text. */
  readonly address: string;
  /** What it is doing. */
  readonly state: ChannelState;
  /** Since when it has been in this state. */
  readonly since: string;
  /** What it waits for, or why it failed; null where there is nothing to say. */
  readonly detail: string | null;
  /** Until the next attempt; null unless `backing-off`. */
  readonly nextTryMs: number | null;
  /** Null while there is no session. */
  readonly session: SessionStatus | null;
  /** The sessions that it had. */
  readonly history: SessionHistory;
  /** What went over it since it was added. */
  readonly totals: ChannelTotals;
}

/** The session of the moment. */
export interface SessionStatus {
  /** What the peer says of itself. */
  readonly peer: {
    /** Program and version, as the peer says. */
    readonly agent: string;
    /** The name that its operator gave it; null where there is none. */
    readonly name: string | null;
    /** The services that it offers. */
    readonly services: readonly string[];
  };
  /** The version of the protocol that both sides speak. */
  readonly protocolVersion: number;
  /** Whether each frame carries a check of its bytes. */
  readonly integrity: boolean;
  /** The id of the key by which the two sides have authenticated each other; null: they have not, by a key. */
  readonly key: string | null;
  /** How what passes is encrypted: with a key, with certificates on both sides; null: not by vproxy. */
  readonly tls: 'psk' | 'cert' | null;
  /** For how long it has been established. */
  readonly ageMs: number;
  /** Null before the first measurement. */
  readonly roundTripMs: number | null;
  /** By how much the peer's clock was ahead when it last said what it offers; null where it has not said its time. */
  readonly clockOffsetMs: number | null;
  /** Streams open now. */
  readonly streams: number;
  /** What may still be sent before the peer gives more, all streams together. */
  readonly sendCreditBytes: number;
  /** What the channel was given and has not written. */
  readonly unwrittenBytes: number;
}

/** The sessions that a channel had. */
export interface SessionHistory {
  /** How many were established, the one of the moment included. */
  readonly sessions: number;
  /** How many ended with each code of the table of errors; `other` for those that it does not have. */
  readonly ends: Readonly<Record<string, number>>;
  /** The last ones that ended, the newest first; at most 16. */
  readonly recent: readonly {
    /** When it ended. */
    at: string;
    /** How long it had lasted. */
    ageMs: number;
    /** Why it ended, as a code of the table of errors, or as a peer said it. */
    code: string;
    /** Why it ended, in a line. */
    message: string;
  }[];
}

/** What went over a channel since it was added. */
export interface ChannelTotals {
  /** Payload of DATA. */
  readonly sentBytes: number;
  /** Payload of DATA. */
  readonly receivedBytes: number;
  /** Frames of every type. */
  readonly sentFrames: number;
  /** Frames of every type. */
  readonly receivedFrames: number;
  /** Bytes that belonged to no session. */
  readonly skippedBytes: number;
  /** For how long the channel took nothing although something waited. */
  readonly stallMs: number;
  /** Streams that either side has opened. */
  readonly streamsOpened: number;
  /** Streams that did not end in order, refused ones included. */
  readonly streamsFailed: number;
}

/** One forward. */
export interface ForwardStatus {
  /** `f1`, `f2`, …: unique in the process. */
  readonly id: string;
  /** The label of its channel. */
  readonly channel: string;
  /** `outgoing` (`-o`) listens here; `incoming` (`-i`) serves here. */
  readonly direction: Direction;
  /** The service that it leads to, or serves; `*` where who connects names it. */
  readonly service: string;
  /** The endpoint in force, with the port that was picked where 0 was asked for. */
  readonly endpoint: string;
  /** The text that it was made from, as `-o` and `-i` take it. */
  readonly spec: string;
  /** `draining`: it takes nothing new, and goes when its streams have ended. */
  readonly state: 'active' | 'draining';
  /** Streams open now. */
  readonly streams: number;
  /** Streams that it ever had. */
  readonly opened: number;
}

/** A service that is offered to the peer of a channel, or by it. */
export interface ServiceStatus {
  /** The label of the channel. */
  readonly channel: string;
  /** Its name. */
  readonly service: string;
  /** Who serves it: this side, or the peer. */
  readonly offeredBy: 'here' | 'peer';
  /** The incoming forward that serves it; null for the peer's, and for those that a program or the broker serves. */
  readonly forward: string | null;
}

/** One stream. */
export interface StreamStatus {
  /** The label of its channel. */
  readonly channel: string;
  /** Its number in the session; 0 while its opening is held back. */
  readonly id: number;
  /** The service that it was opened to. */
  readonly service: string;
  /** `outgoing`: opened on this side. */
  readonly direction: Direction;
  /** Null for one that no forward has. */
  readonly forward: string | null;
  /** Where the program that opened it came from, as the side of that program says. */
  readonly from: string | null;
  /** For how long it has been there. */
  readonly ageMs: number;
  /** Payload that went to the peer. */
  readonly sentBytes: number;
  /** Payload that came from the peer. */
  readonly receivedBytes: number;
  /** What may be sent before the peer gives more. */
  readonly sendCreditBytes: number;
  /** What the peer may send before it is given more. */
  readonly receiveCreditBytes: number;
  /** Null where nothing waits. */
  readonly waitsFor: StreamWait | null;
}

// The session of the moment, as it stands in a status.

/** What a session on a channel with these traits says of itself. */
export function describeSession(session: Session, { tls }: ChannelTraits): SessionStatus {
  const { peer, integrity, version } = session.agreement;
  return {
    peer: { agent: peer.agent, name: peer.name, services: [...session.peerServices] },
    protocolVersion: version ?? 0,
    integrity,
    key: session.keyId,
    tls,
    ageMs: Math.round(session.ageMs),
    roundTripMs: session.roundTripMs,
    clockOffsetMs: session.clockOffsetMs,
    streams: session.streamCount,
    sendCreditBytes: session.sendCreditBytes,
    unwrittenBytes: session.unwrittenBytes,
  };
}
