/** A connection of a forward: a stream and the splice that joins it with a socket; and how a successor takes it over. */
import { VproxyError } from '../errors.js';
import type { SessionStream } from '../session/stream.js';
import type { KeepDescriptor, TakeDescriptor } from '../system/descriptors.js';
import type { OnRead } from '../system/sockets/node-sockets.js';
import type { Clock } from '../util/clock.js';
import type { Splice, SpliceCapture } from './splice.js';

/** What is known of a stream, also when it is over; for the log. */
export interface KnownStream {
  readonly id: number;
  readonly service: string;
  readonly from: string | null;
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** By the session's clock. */
  readonly openedAtMs: number;
  /** As of {@link SessionStream}; only where that is still there. */
  isServed?: () => boolean;
}

/** A connection, from the opening of its stream until stream and socket are both done with. */
export interface Connection {
  /** Only what is known of it where it was over already in an earlier process. */
  readonly stream: SessionStream | KnownStream;
  readonly splice: Splice;
  /** Whether the stream is, or was, open both ways. */
  isOpen: boolean;
  /** Whether what the peer sends passes a filter, which has a state. */
  isFiltered: boolean;
  /** What an egress reached with it; null: it is none of an egress. */
  readonly egress: EgressCapture | null;
}

/** What an egress connected a stream to. */
export interface EgressCapture {
  /** What was asked for: a name in lower case, or an address. */
  readonly host: string;
  readonly port: number;
  /** What was connected to, as `ADDRESS:PORT`. */
  readonly address: string;
  /** The entry that let it out. */
  readonly rule: string;
  /** What had passed on the stream by then, in bytes, and its age, in milliseconds. */
  readonly sentBefore: number;
  readonly receivedBefore: number;
  readonly ageBefore: number;
}

/** A connection as plain data. */
export interface ConnectionCapture {
  /** The number of its stream among those that are handed over; null: it is over, and its session has it no more. */
  readonly stream: number | null;
  /** What is known of it then, with its age in milliseconds; else null. */
  readonly ended: EndedCapture | null;
  readonly splice: SpliceCapture;
  readonly isOpen: boolean;
  readonly egress: EgressCapture | null;
}

type EndedCapture = Omit<KnownStream, 'openedAtMs' | 'isServed'> & { readonly ageMs: number };

/** The number of a stream among those that are handed over; -1 where it is not among them. */
export type IndexOfStream = (stream: SessionStream) => number;

/** Why a connection cannot be handed over now, for people; null where it can. `name` is what it leads to. */
export function obstacleOf({ stream, splice, isFiltered }: Connection, name: string): string | null {
  const what = `stream ${stream.id} to ${name}`;
  const capture = splice.capture(() => 0);
  if (capture === null) return `${what}, as it cannot be told what of it is still to be written`;
  return isFiltered && capture.socket !== null ? `${what}, whose bytes pass a filter` : null;
}

/** Throws `upgrade-failed` where its stream is not handed over, although it is not over; or where it is an obstacle. */
export function captureConnection(
  connection: Connection,
  clock: Clock,
  keep: KeepDescriptor,
  indexOf: IndexOfStream,
): ConnectionCapture {
  const { egress, isOpen, splice, stream } = connection;
  const live = liveStream(stream);
  const index = live === null ? null : indexOf(live);
  const capture = splice.capture(keep);
  if (capture === null || index === -1) {
    throw new VproxyError('upgrade-failed', `stream ${stream.id} to ${stream.service} cannot be handed over`);
  }
  const ended = live === null ? captureEnded(stream, clock) : null;
  return { stream: index, ended, splice: capture, isOpen, egress };
}

/** The stream, where its session still has it. */
function liveStream(stream: SessionStream | KnownStream): SessionStream | null {
  return 'isOver' in stream && (!stream.isOver || stream.isDraining) ? stream : null;
}

function captureEnded(stream: KnownStream, clock: Clock): EndedCapture {
  const { id, service, from, sentBytes, receivedBytes, openedAtMs } = stream;
  return { id, service, from, sentBytes, receivedBytes, ageMs: clock.now() - openedAtMs };
}

/** The stream of a connection that is restored. Throws `upgrade-failed` where it was not handed over. */
export function restoredStream(
  { stream, ended }: ConnectionCapture,
  streams: readonly SessionStream[],
  clock: Clock,
): SessionStream | KnownStream {
  const live = stream === null ? undefined : streams[stream];
  if (live !== undefined) return live;
  if (ended === null) throw new VproxyError('upgrade-failed', `stream ${stream} of a forward was not handed over`);
  const { ageMs, ...rest } = ended;
  return { ...rest, openedAtMs: clock.now() - ageMs };
}

/** Makes the splice of a connection what it was, and attaches it. Gives the socket; null where that is closed. */
export function restoreConnection(
  { splice, stream }: Connection,
  capture: ConnectionCapture,
  take: TakeDescriptor,
  read: ((onread: OnRead) => void) | null = null,
): ReturnType<Splice['restore']> {
  const live = liveStream(stream);
  const socket = splice.restore(capture.splice, take, live, read);
  live?.attach(splice);
  return socket;
}
