/** A running vproxy: one channel, its sessions, the forwards over them, and the storage broker. */
import { EventEmitter } from 'eventemitter3';
import type { ForwardSpec } from '../forward/spec.js';
import type { LogEvent } from '../util/log-event.js';

/** What a proxy is made of. */
export interface ProxyOptions {
  /** The channel's text, `KIND:ADDRESS[,key=value…]`. */
  readonly channel: string;
  readonly forwards: readonly ForwardSpec[];
  /** The operator's name for this side, told to the peer. Default null. */
  readonly name?: string | null;
  /** Program and version, told to the peer. */
  readonly agent: string;
  /** How long a local connection waits for a session, in milliseconds. Default 10,000. */
  readonly waitMs?: number;
  /** Silence for so long ends the session, in milliseconds; null: never. Default: what suits the channel's kind. */
  readonly deadAfterMs?: number | null;
  /** Lets a channel listen on addresses that other machines reach. Default false. */
  readonly insecure?: boolean;
  readonly storage?: StorageOptions;
}

/** When and where the storage broker runs (docs/storage.md). */
export interface StorageOptions {
  /** False: never (`--no-storage`). Default true. */
  readonly isAllowed?: boolean;
  /** The broker's socket: makes it run on any kind of channel; one that cannot be had is an error then. */
  readonly socketPath?: string | null;
  /** Calls at once to an emulator that listens at the peer. Default 1. */
  readonly parallel?: number;
  /** `$XDG_RUNTIME_DIR`, for the default path. */
  readonly runtimeDirectory?: string | null;
}

export interface ProxyEvents {
  log: [event: LogEvent];
  /** The channel can never work; the proxy should be stopped, and the command end with the code's exit status. */
  fatal: [reason: Error];
}

/** Composition and life of all layers. `start` once, then `stop` once. */
export declare class Proxy extends EventEmitter<ProxyEvents> {
  /** Throws `bad-argument` for a channel that is not valid or not allowed. */
  constructor(options: ProxyOptions);
  /** Listens for the outgoing forwards, then opens the channel, which may take for ever. Rejects with `address-…` codes. */
  start(): Promise<void>;
  /** Tells the peer, closes everything, and comes back within a second. */
  stop(): Promise<void>;
  /** Opens a channel that waits for its next attempt now. */
  retryNow(): void;
}
