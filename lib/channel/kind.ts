/** A kind of channel: what one row of the table in `kinds.ts` says, and what one file of this folder implements. */

import type { Integrity } from '../codec/header.js';
import { DEFAULT_LIMITS } from '../codec/limits.js';
import type { VproxyError } from '../errors.js';
import type { Link, LinkState } from '../link/link.js';
import type { KeepDescriptor, TakeDescriptor } from '../system/descriptors.js';
import type { HostPort } from '../util/addresses.js';

/** How TLS knows the peer: by a key that both sides have, or by certificates on both sides. */
type TlsMode = 'psk' | 'cert';

/** What a kind of channel means for the protocol on it. */
export interface ChannelTraits {
  /** The largest DATA payload that this side sends and accepts, in bytes (docs/protocol.md, R-OPEN-1). */
  readonly frameBytes: number;
  /** How much DATA the peer may have on the way, in bytes: the first credit of the session. */
  readonly inFlightBytes: number;
  /** How many streams of the peer may be open at once (R-STREAM-5). */
  readonly streams: number;
  /** How this side asks DATA to be checked (R-INTEGRITY-2, R-INTEGRITY-4). */
  readonly integrity: Integrity;
  /** The silence that ends the session, in milliseconds; null where a peer may be paused (R-LIVE-2). */
  readonly deadAfterMs: number | null;
  /** How long a session waits for another link when its own is lost, in milliseconds; 0: it ends with its link (R-RESUME-1). */
  readonly resumeMs: number;
  /** How much of what was sent is kept for another link before DATA waits, in bytes (R-RESUME-2). */
  readonly resumeMemoryBytes: number;
  /** What protects the sessions on it; null: nothing (R-AUTH-3). */
  readonly tls: TlsMode | null;
  /** Paths of PEM files; only with `tls=cert`, which needs them. */
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  /** The name that the peer's certificate has to have; only with `tls=cert`. Default: any. */
  readonly peer?: string;
  /** Whether the storage broker runs on it without being asked for: it leads to a host (docs/storage.md). */
  readonly leadsToHost: boolean;
}

/** What the value of an option may be, and how it is spelled. */
export interface TextType<V> {
  /** The value of a text, or null where it is not valid. */
  parse(text: string): V | null;
  /** `parse` reads it back. */
  format(value: V): string;
  /** What a text has to be, for people. */
  readonly expected: string;
  /** The texts, where they are words. */
  readonly words?: readonly string[];
  /** Whether it is the path of a file. Default false. */
  readonly isPath?: boolean;
}

/** An option behind the address of a channel, such as `baud=115200`: which field it sets, where null or missing is what nobody said. */
export interface ChannelOption<F extends string = string, V = unknown> {
  readonly field: F;
  readonly type: TextType<V>;
  /** The value that is not worth saying. Default: that of the kind's traits. */
  readonly fallback?: V;
  /** Whether only `tls=cert` has it. Default false. */
  readonly isForCertificates?: boolean;
}

/** An option for a field of `T`: of the traits or, where it is one kind's own, of its address. */
export type OptionFor<T> = {
  [F in keyof T & string]-?: ChannelOption<F, NonNullable<T[F]>>;
}[keyof T & string];

/** What opening a channel reports while it is not open yet. */
interface OpenReport {
  /** Something to wait for, as one line for people ("waiting for the host"); called when it changes. */
  waiting(what: string): void;
}

/** What a caller gives along with the address to dial. */
export interface DialContext {
  /** Gives up waiting: `dial` then rejects with `shutdown`. */
  readonly signal: AbortSignal;
  readonly report: OpenReport;
  /** Whether a symbolic link in the place of a socket is followed: not where others than the operator choose it. Default true. */
  readonly followsLinks?: boolean;
}

/** What on this machine a channel leads to, for those who look at it without opening it. `servesOne`: a QEMU may listen there, which serves one at a time. */
export type ChannelLocation =
  | { readonly is: 'unix-socket'; readonly path: string; readonly servesOne: boolean }
  | { readonly is: 'unix-listener'; readonly path: string }
  | { readonly is: 'tcp-port'; readonly address: HostPort; readonly servesOne: boolean }
  | { readonly is: 'tcp-listener'; readonly address: HostPort }
  /** By its name or its path. */
  | { readonly is: 'virtio-port'; readonly name: string }
  | { readonly is: 'serial-line'; readonly path: string }
  /** `PATH.in` and `PATH.out`. */
  | { readonly is: 'fifos'; readonly path: string }
  /** For a shell. */
  | { readonly is: 'command'; readonly command: string }
  /** With null for its port the one of vproxy; with null for its URI the hypervisor that virsh asks by itself. */
  | { readonly is: 'domain-port'; readonly domain: string; readonly port: string | null; readonly uri: string | null }
  /** A machine; with null a port of this one. */
  | { readonly is: 'vsock'; readonly cid: number | null };

export type LocationOf<Is extends ChannelLocation['is']> = Extract<ChannelLocation, { readonly is: Is }>;

/** What a kind says of its addresses, whichever side opens it. */
interface KindOf<A> {
  readonly traits: ChannelTraits;
  /** The kind's own options by name, besides those of every kind. Default: none. */
  readonly options?: ReadonlyMap<string, ChannelOption>;
  /** The address from the text behind `KIND:`, without options. Throws `bad-argument`. */
  parse(text: string): A;
  /** The text of an address; `parse` reads it back. */
  format(address: A): string;
  /**
   * What an address leads to, the same for each of its spellings; a relative path is one in `folder`. Null where every opening
   * leads to another channel. Default: what `format` gives.
   */
  place?(address: A, folder: string): string | null;
  /** What the doctor looks at. Default: there is nothing to see before it is opened. */
  locate?(address: A): ChannelLocation;
  /** Who besides users of this machine could be the peer, or between it and this side: `anybody on the network`. Default: null, nobody. */
  strangers?(address: A): string | null;
  /**
   * A link that another process of this program has opened at that address, to go on with: it reads and writes nothing before
   * its start. Throws where it cannot. Default: its links cannot be handed over.
   */
  restoreLink?(state: LinkState, take: TakeDescriptor): Link;
}

/** A kind that this side opens: each `dial` gives one link, or rejects with a `channel-…` code. */
export interface DialKind<A> extends KindOf<A> {
  readonly mode: 'dial';
  /** Opens it. Rejects with a `channel-…` code, whose row tells whether trying again can help. */
  dial(address: A, context: DialContext): Promise<Link>;
}

/** What a listener calls. */
export interface ListenHandlers {
  readonly onLink: (link: Link) => void;
  /** The listener broke (`channel-failed`) and is closed: it can be opened again. Called at most once. */
  readonly onFailed: (error: VproxyError) => void;
}

/** A kind on which peers connect: every accepted connection is a link. */
export interface ListenKind<A> extends KindOf<A> {
  readonly mode: 'listen';
  /** Whether listening there without TLS is safe: no network leads to it. */
  isPrivate(address: A): boolean;
  /**
   * Rejects with `address-…` codes. `descriptor` is that of a socket on which another process of this program has listened there:
   * it is used, and nothing is bound. It is owned from then on.
   */
  listen(address: A, handlers: ListenHandlers, descriptor?: number): Promise<ChannelListener>;
}

/** An open listener of a `ListenKind`. */
export interface ChannelListener {
  /** The address in force, with the port that was picked where 0 was asked for. */
  readonly description: string;
  /** Stops accepting, and removes the socket file that it made. Links stay. */
  close(): Promise<void>;
  /** The number of the descriptor that a successor listens on; changes nothing. Null where there is none. Default: there is none. */
  capture?(keep: KeepDescriptor): number | null;
}

export type ChannelKind<A = unknown> = DialKind<A> | ListenKind<A>;

// What a kind of channel means for the protocol, where the kind does not say otherwise.

/** The traits of a channel that leads to a VM, or may do so: the machine at its other end may be paused or restarted. */
export const VM_TRAITS: ChannelTraits = {
  frameBytes: 131_072,
  inFlightBytes: 1_048_576,
  streams: DEFAULT_LIMITS.streams,
  integrity: 'frame',
  deadAfterMs: null,
  resumeMs: 0,
  resumeMemoryBytes: 64 * 2 ** 20,
  tls: null,
  leadsToHost: false,
};

/** The traits of a channel that may break while the processes at its ends live on: a session waits a minute for another link. */
export const BREAKABLE_TRAITS: ChannelTraits = { ...VM_TRAITS, resumeMs: 60_000 };

/** The traits of TCP: nobody is paused there, so silence means that the other side is gone. */
export const TCP_TRAITS: ChannelTraits = { ...BREAKABLE_TRAITS, deadAfterMs: 30_000 };
