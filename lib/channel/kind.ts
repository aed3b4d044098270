/** The interface of a kind of channel: one row of the table in `kinds.ts`, implemented by one file of this folder. */

import type { Integrity } from '../codec/header.js';
import { DEFAULT_LIMITS } from '../codec/limits.js';
import type { VproxyError } from '../errors.js';
import type { Link, LinkState } from '../link/link.js';
import type { KeepDescriptor, TakeDescriptor } from '../system/descriptors.js';
import type { HostPort } from '../util/addresses/host-port.js';

/** How TLS authenticates the peer: by a shared key, or by certificates on both sides. */
type TlsMode = 'psk' | 'cert';

/** The protocol parameters of a kind of channel. */
export interface ChannelTraits {
  /** The largest DATA payload that this side sends and accepts, in bytes (docs/protocol.md, R-OPEN-1). */
  readonly frameBytes: number;
  /** How much DATA the peer may have in flight, in bytes: the initial credit of the session. */
  readonly inFlightBytes: number;
  /** Limit on the peer's open streams (R-STREAM-5). */
  readonly streams: number;
  /** The integrity checks of DATA that this side requests (R-INTEGRITY-2, R-INTEGRITY-4). */
  readonly integrity: Integrity;
  /** The silence that ends the session, in milliseconds; null if the peer may be paused (R-LIVE-2). */
  readonly deadAfterMs: number | null;
  /** How long a session waits for another link, in milliseconds; 0 if it ends with its link (R-RESUME-1). */
  readonly resumeMs: number;
  /** Limit on sent data kept for another link, in bytes; beyond it DATA waits (R-RESUME-2). */
  readonly resumeMemoryBytes: number;
  /** How sessions are encrypted; null if they are not (R-AUTH-3). */
  readonly tls: TlsMode | null;
  /** Paths of PEM files; required with `tls=cert`, and only allowed there. */
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  /** The name required in the peer's certificate; only with `tls=cert`. Default: any. */
  readonly peer?: string;
  /** Whether its peer keeps it while alive: another one is refused (R-CHANNEL-3). Only where this side listens. */
  readonly isExclusive: boolean;
}

/** The type of an option's value: parsing and formatting. */
export interface TextType<V> {
  /** Parses a text; null if it is not valid. */
  parse(text: string): V | null;
  /** The inverse of `parse`. */
  format(value: V): string;
  /** A human-readable description of valid texts. */
  readonly expected: string;
  /** All valid texts, if they are words. */
  readonly words?: readonly string[];
  /** Whether it is a file path. Default false. */
  readonly isPath?: boolean;
}

/** An option after the address of a channel, such as `baud=115200`. The field that it sets is null or missing by default. */
export interface ChannelOption<F extends string = string, V = unknown> {
  readonly field: F;
  readonly type: TextType<V>;
  /** The value that is omitted in the canonical text. Default: that of the kind's traits. */
  readonly fallback?: V;
  /** Whether it is allowed only with `tls=cert`. Default false. */
  readonly isForCertificates?: boolean;
}

/** An option for a field of `T`: the traits or, for an option of one kind, its address. */
export type OptionFor<T> = {
  [F in keyof T & string]-?: ChannelOption<F, NonNullable<T[F]>>;
}[keyof T & string];

/** Progress reports while a channel is being opened. */
interface OpenReport {
  /** Reports what is waited for, in a few words ("the host"); called when it changes. */
  waiting(what: string): void;
}

export interface DialContext {
  /** Cancels: `dial` then rejects with `shutdown`. */
  readonly signal: AbortSignal;
  readonly report: OpenReport;
  /** Whether to follow a symbolic link to a socket: false if others than the operator may create it. Default true. */
  readonly followsLinks?: boolean;
}

/** What a channel leads to on this machine, to inspect it unopened. `servesOne`: a QEMU, which serves one client, may listen there. */
export type ChannelLocation =
  | { readonly is: 'unix-socket'; readonly path: string; readonly servesOne: boolean }
  | { readonly is: 'unix-listener'; readonly path: string }
  | { readonly is: 'tcp-port'; readonly address: HostPort; readonly servesOne: boolean }
  | { readonly is: 'tcp-listener'; readonly address: HostPort }
  /** By name or path. */
  | { readonly is: 'virtio-port'; readonly name: string }
  | { readonly is: 'serial-line'; readonly path: string }
  /** `PATH.in` and `PATH.out`. */
  | { readonly is: 'fifos'; readonly path: string }
  /** A shell command. */
  | { readonly is: 'command'; readonly command: string }
  /** A null port means vproxy's own; a null URI means virsh's default hypervisor. */
  | { readonly is: 'domain-port'; readonly domain: string; readonly port: string | null; readonly uri: string | null }
  /** The CID of a machine; null for a port of this one. */
  | { readonly is: 'vsock'; readonly cid: number | null };

export type LocationOf<Is extends ChannelLocation['is']> = Extract<ChannelLocation, { readonly is: Is }>;

/** The common part of dialled and listening kinds. */
interface KindOf<A> {
  readonly traits: ChannelTraits;
  /** The kind's own options by name, besides those of every kind. Default: none. */
  readonly options?: ReadonlyMap<string, ChannelOption>;
  /** Parses the text after `KIND:`, without options. Throws `bad-argument`. */
  parse(text: string): A;
  /** Formats an address so that `parse` can read it. */
  format(address: A): string;
  /**
   * The place that an address leads to, the same for all its spellings. Null if every opening leads to another channel. Default: the result of `format`.
   */
  place?(address: A): string | null;
  /** What the doctor inspects. Default: nothing can be inspected without opening it. */
  locate?(address: A): ChannelLocation;
  /** Who besides local users could be the peer, or in the middle: `anybody on the network`; null for no one. Default null. */
  strangers?(address: A): string | null;
  /**
   * Whether the peer is the host of this machine: by default it gets `info`, and the storage broker runs (docs/storage.md).
   * Default false.
   */
  leadsToHost?(address: A): boolean;
  /**
   * Restores a link that a predecessor process had at that address; it reads and writes nothing before its start. Throws if it
   * cannot. Default: links of this kind cannot be handed over.
   */
  restoreLink?(state: LinkState, take: TakeDescriptor): Link;
}

/** A kind that this side opens: each `dial` yields one link. */
export interface DialKind<A> extends KindOf<A> {
  readonly mode: 'dial';
  /** Opens a link. Rejects with a `channel-…` code, whose row says whether a retry can help. */
  dial(address: A, context: DialContext): Promise<Link>;
}

export interface ListenHandlers {
  readonly onLink: (link: Link) => void;
  /** The listener failed (`channel-failed`) and is closed; it can be reopened. Called at most once. */
  readonly onFailed: (error: VproxyError) => void;
}

/** A kind to which peers connect: every accepted connection is a link. */
export interface ListenKind<A> extends KindOf<A> {
  readonly mode: 'listen';
  /** Whether listening there without TLS is safe: it is not reachable from a network. */
  isPrivate(address: A): boolean;
  /**
   * Listens. Rejects with `address-…` codes. `descriptor` is a socket on which a predecessor process listened there: it is
   * used instead of binding, and owned by the listener.
   */
  listen(address: A, handlers: ListenHandlers, descriptor?: number): Promise<ChannelListener>;
}

export interface ChannelListener {
  /** The bound address, with the chosen port if 0 was requested. */
  readonly description: string;
  /** Stops accepting, and removes the socket file that it created. Links stay open. */
  close(): Promise<void>;
  /** The descriptor number for a successor to listen on, or null; changes nothing. Default: null. */
  capture?(keep: KeepDescriptor): number | null;
}

export type ChannelKind<A = unknown> = DialKind<A> | ListenKind<A>;

// Default traits.

/** The traits of a channel that may lead to a VM, which may be paused or restarted. */
export const VM_TRAITS: ChannelTraits = {
  frameBytes: 131_072,
  inFlightBytes: 1_048_576,
  streams: DEFAULT_LIMITS.streams,
  integrity: 'frame',
  deadAfterMs: null,
  resumeMs: 0,
  resumeMemoryBytes: 64 * 2 ** 20,
  tls: null,
  isExclusive: false,
};

/** The traits of a channel that may break while the processes at its ends keep running: a session waits a minute for a link. */
export const BREAKABLE_TRAITS: ChannelTraits = { ...VM_TRAITS, resumeMs: 60_000 };

/** The traits of TCP: peers are not paused there, so silence means that the peer is gone. */
export const TCP_TRAITS: ChannelTraits = { ...BREAKABLE_TRAITS, deadAfterMs: 30_000 };
