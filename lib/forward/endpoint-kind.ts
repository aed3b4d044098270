/** What runs a kind of endpoint: the entrance of an outgoing forward, the target of an incoming one. */
import type net from 'node:net';
import { DEFAULT_LIMITS } from '../codec/limits.js';
import type { VproxyError } from '../errors.js';
import type { MessageCounts, SessionStream } from '../session/stream.js';
import type { DatagramEntrance } from '../system/datagrams/datagrams.js';
import type { AskedAddress } from '../system/sockets/listen-address.js';
import type { Clock } from '../util/clock.js';
import type { Caller, Connections, KnownStream } from './connection.js';
import type { EgressRules } from './egress/rules.js';
import type { EndpointBase } from './forms/endpoint-form.js';
import type { ForwardLog } from './forward-log.js';
import type { ConnectionFilters, InputFilters } from './input-filter.js';
import type { ResolvedNames } from './redirect/resolved-names.js';

/**
 * One row of the table in `endpoint-kinds.ts`: `createTarget` if its form has an incoming one; `listenAddress` and
 * `createEntrance`, or `datagramEntrance`, if it has an outgoing one.
 */
export interface EndpointKind<E extends EndpointBase = EndpointBase> {
  /** Creates the target of an `-i`. */
  createTarget?(endpoint: E, context: TargetContext): Target;
  /** Where an `-o` listens. */
  listenAddress?(endpoint: E): AskedAddress;
  /** Creates the handler of the connections accepted there. */
  createEntrance?(endpoint: E, context: EntranceContext): Entrance;
  /** Where an `-o` gets datagrams; replaces these two. */
  datagramEntrance?(endpoint: E): DatagramEntrance;
}

// How an outgoing forward receives connections, before there is a stream.

/** Receives the connections of an outgoing forward. */
export interface Entrance {
  /** Call before the first `receive`. Rejects with `address-unavailable` if it never works. Default: no preparation. */
  prepare?(): Promise<void>;
  /** The filters between its streams and sockets. Default: those of the forward. */
  readonly filters?: ConnectionFilters;
  /** Takes a paused, unread connection and passes it on once its request is known. */
  receive(accepted: net.Socket, onCaller: (caller: Caller) => void): void;
}

export interface EntranceContext {
  /** The service of the forward; `*` if clients name it. */
  readonly service: string;
  readonly clock: Clock;
  /** A connection is closed without a stream because its request is invalid. */
  readonly onRejected: (why: string) => void;
}

// The targets of incoming forwards.

/** What a service accepts from a peer: streams, datagram flows, or both. */
export type Takes = 'streams' | 'datagrams' | 'both';

/** Serves the streams of one service. */
export interface Target {
  /** What it accepts; anything else is refused before it gets here. Default `streams`. */
  readonly takes?: Takes;
  /** What its datagram flows carried; null if it has streams only. Default null. */
  readonly messages?: MessageCounts | null;
  /** Call before it serves. Rejects with `address-unavailable` if it never can. Default: no preparation. */
  prepare?(): Promise<void>;
  /** Serves one stream: at once attaches a local end or refuses it; accepts it once the target is known to work. */
  serve(stream: SessionStream): void;
  /** Local ends that have not closed. */
  readonly openCount: number;
  /** Resets the connections that these rules of an egress allowed (null: all); returns their number. Default: none. */
  revoke?(egress: string, rules: ReadonlySet<string> | null): number;
  /** The service is no longer offered. Default: nothing; what is open continues. */
  pause?(): void;
  /**
   * For an upgrade that would otherwise always find an obstacle: has new streams wait for a moment. If it `isLast`, without one,
   * ends what only waits for its program to begin something; returns whether the log has yet to hear of that. Default: nothing.
   */
  letWait?(isLast: boolean): boolean;
  /** Ends everything that is open. Resolves when done. */
  stop(): Promise<void> | void;

  /** Its connections, which a successor takes over. Default: none. */
  readonly connections?: Connections;
  /** Served streams that have no answer yet and that a successor serves again. Default: those of its connections. */
  readonly unansweredCount?: number;
  /** What else cannot be handed over to a successor now, each as a human-readable text. Default: nothing. */
  readonly obstacles?: readonly string[];
  /** Ids of streams that cannot be handed over and that only the peer can end. Default: none. */
  endedByPeer?(): number[];
  /** Ends what outlives its stream without a limit, and returns a line for each. Default: none. */
  cut?(): string[];
}

export interface TargetContext {
  /** The endpoint, human-readable: `127.0.0.1:22`. */
  readonly endpoint: string;
  /** The endpoint and the service: `127.0.0.1:22 (ssh)`. */
  readonly name: string;
  readonly service: string;
  readonly clock: Clock;
  /** Limit on streams served at once; closing ones count, except for MAX_CLOSING sockets. */
  readonly maxStreams: number;
  /** Filters between streams and their local ends. Default: none. */
  readonly filters?: InputFilters | undefined;
  /** A stream and its local end have closed; null if both directions ended in order. */
  readonly onClosed: (stream: KnownStream, reason: VproxyError | null) => void;
  /** A local end has closed: `openCount` is one less. Default: no callback. */
  readonly onLeft?: () => void;
  /** What a socket of the target is sent before the stream's first byte; null: nothing. */
  readonly preamble: ((stream: SessionStream) => Buffer) | null;
  /** The current rules of the egress of that name; null if there is none. */
  readonly egress: (name: string) => EgressRules | null;
  /** The names that the resolvers of the channel have answered. */
  readonly names: ResolvedNames;
  /** The log of the forward. The target reports the streams that it accepts. */
  readonly log: ForwardLog;
}

/**
 * Limit on closing sockets of a target in addition to `maxStreams`. A reset stream frees its place at once (R-STREAM-5), its
 * socket only in a later turn; meanwhile the peer can open as many streams as may be unanswered.
 */
export const MAX_CLOSING = DEFAULT_LIMITS.opens;

/** Refuses a stream if the limit is reached; returns whether it did. */
export function refuseBeyond(stream: SessionStream, openCount: number, maxStreams: number): boolean {
  if (openCount < maxStreams) return false;
  stream.refuse('too-many-streams', `too many connections to the target (max ${maxStreams}, closing ones included)`);
  return true;
}
