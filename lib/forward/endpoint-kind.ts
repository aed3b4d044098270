/**
 * A kind of endpoint: what one row of the table in `endpoint-kinds.ts` says, and what one file of this folder implements: the
 * entrance of an outgoing forward, the target of an incoming one.
 */
import type net from 'node:net';
import { DEFAULT_LIMITS } from '../codec/limits.js';
import type { VproxyError } from '../errors.js';
import type { MessageCounts, SessionStream } from '../session/stream.js';
import type { DatagramEntrance } from '../system/datagrams/datagrams.js';
import type { ListenAddress } from '../system/sockets/listen-address.js';
import type { Clock } from '../util/clock.js';
import type { Caller, Connections, KnownStream } from './connection.js';
import type { EgressRules } from './egress/rules.js';
import type { ForwardLog } from './forward-log.js';
import type { InputFilter } from './input-filter.js';
import type { NameSample } from './template.js';

/** What every endpoint has; its kind adds the rest. */
export interface EndpointBase {
  /** The name of its kind in the table. */
  readonly kind: string;
}

/** Which end of a forward: `outgoing` (`-o`) listens here; `incoming` (`-i`) serves here. */
export type Direction = 'outgoing' | 'incoming';

/**
 * A kind. One without `createTarget` is nothing for `-i`, one without `listenAddress` and `createEntrance`, or `datagramEntrance`,
 * nothing for `-o`.
 */
export interface EndpointKind<E extends EndpointBase = EndpointBase> {
  /** Its text with the name before it, for people: `vsock-mux:/path:PORT`. */
  readonly form: Readonly<Partial<Record<Direction, string>>>;
  /** Whether a text that begins with no kind's name is one of this kind. Default: it never is. */
  readonly recognizes?: (text: string) => boolean;
  /** Whether who connects to an `-o` names the service, which is `*` in the forward. Default false. */
  readonly namesService?: boolean;
  /** The endpoint of the text behind `NAME:`; names in it are valid when their samples are. Throws `bad-argument` with what is wrong. */
  parse(text: string, direction: Direction, sampleOf: NameSample): E;
  /** The text of an endpoint; `parse` reads it back. */
  format(endpoint: E): string;
  /** What serves the streams of an `-i`. */
  createTarget?(endpoint: E, context: TargetContext): Target;
  /** Where an `-o` listens. Throws `bad-argument` for a user or a group that is not known. */
  listenAddress?(endpoint: E): ListenAddress;
  /** What becomes of those who connect there. */
  createEntrance?(endpoint: E, context: EntranceContext): Entrance;
  /** Where an `-o` gets datagrams, in the place of these two. Throws as `listenAddress`. */
  datagramEntrance?(endpoint: E): DatagramEntrance;
}

// What an outgoing forward does with connections, and what a connection is before it is a stream.

/** What meets those who connect. */
export interface Entrance {
  /** Takes a connection, paused and not read yet, and hands it on once it is known what it wants. */
  receive(accepted: net.Socket, onCaller: (caller: Caller) => void): void;
}

/** What an entrance gets from its forward. */
export interface EntranceContext {
  /** The service of the forward; `*` where callers name it. */
  readonly service: string;
  readonly clock: Clock;
  /** A connection is closed without a stream, because of what it said. */
  readonly onRejected: (why: string) => void;
}

// What an incoming forward leads its streams to.

/** What a service takes of a peer: streams, flows of datagrams, or both. */
export type Takes = 'streams' | 'datagrams' | 'both';

/** Serves the streams of one service. */
export interface Target {
  /** What it is given; all else is refused before. Default `streams`. */
  readonly takes?: Takes;
  /** What its flows of datagrams carried; null where it has streams only. Default null. */
  readonly messages?: MessageCounts | null;
  /** To be called before it serves. Rejects with `address-unavailable` where it never can. Default: it can. */
  prepare?(): Promise<void>;
  /** Serves one stream: attaches a sink to it at once, or refuses it; accepts it when it is known to work. */
  serve(stream: SessionStream): void;
  /** Local ends that are not done with. */
  readonly openCount: number;
  /** Ends what is still open. Resolves when it has. */
  stop(): Promise<void> | void;

  /** Its connections, which a successor takes over. Default: it has none. */
  readonly connections?: Connections;
  /** What cannot be handed over to a successor now, besides them: a text for people for each. Default: nothing. */
  readonly obstacles?: readonly string[];
  /** Ids of streams that cannot be handed over and that only the peer can end. Default: none. */
  endedByPeer?(): number[];
}

/** What a target gets from its forward. */
export interface TargetContext {
  /** The endpoint and the service, for people: `127.0.0.1:22 (ssh)`. */
  readonly name: string;
  readonly service: string;
  readonly clock: Clock;
  /** How many streams may be served at once; what is still ending counts, but for MAX_CLOSING sockets. */
  readonly maxStreams: number;
  /** What comes between a new stream and its local end; null for nothing. Default null. */
  readonly createFilter?: () => InputFilter | null;
  /** A stream and its local end are done with; null when both directions ended in order. */
  readonly onClosed: (stream: KnownStream, reason: VproxyError | null) => void;
  /** A local end is done with: `openCount` is one less. Default: nobody is told. */
  readonly onLeft?: () => void;
  /** What a socket of the target is given before the stream's first byte; null: nothing. */
  readonly preamble: ((stream: SessionStream) => Buffer) | null;
  /** The rules of the moment of the egress of that name; null where there is none. */
  readonly egress: (name: string) => EgressRules | null;
  /** That of the forward. The target says which streams it has accepted. */
  readonly log: ForwardLog;
}

/**
 * Sockets of a target that may be closing beside those of `maxStreams`. A stream that was reset frees its place at once (R-STREAM-5),
 * its socket only in a later turn; meanwhile the peer can open as many streams as may be unanswered.
 */
export const MAX_CLOSING = DEFAULT_LIMITS.opens;

/** Refuses a stream where as many are served as may be. True when it did. */
export function refuseBeyond(stream: SessionStream, openCount: number, maxStreams: number): boolean {
  if (openCount < maxStreams) return false;
  stream.refuse('too-many-streams', `too many connections to the target (max ${maxStreams}, closing ones included)`);
  return true;
}
