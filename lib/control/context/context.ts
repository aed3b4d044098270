/** The context of requests: the proxy, its process, and state that the control server keeps between requests. */
import type { LogLevel } from '../../events.js';
import type { ChannelOptions } from '../../proxy/channel/channel-options.js';
import type { Proxy } from '../../proxy/proxy.js';
import type { LostLines } from '../../status/channel-tally.js';
import type { ReloadAnswer, UpgradeAnswer } from '../../status/types.js';
import type { Clock } from '../../util/clock.js';
import type { EventLoopDelay } from './event-loop-delay.js';
import type { EventRing } from './event-ring.js';
import type { StreamRates } from './stream-rates.js';

export interface ControlContext {
  readonly proxy: Proxy;
  readonly process: ProcessControl;
  readonly ring: EventRing;
  readonly rates: StreamRates;
  readonly eventLoopDelay: EventLoopDelay;
  readonly clock: Clock;
  /** Those that are not closed. */
  readonly webSockets: Set<OpenWebSocket>;
}

/** A WebSocket, without the types of ws, which users of this package do not have. */
export interface OpenWebSocket {
  readonly socket: {
    /** Bytes that were sent and are not written yet. */
    readonly bufferedAmount: number;
    close(code: number, reason: string): void;
  };
  /** Whether its stream has ended in order: the rest of it is still for the client, who may take its time to read it. */
  hasEnded: boolean;
  /** Whether its client has read nothing for long: no upgrade waits for it. */
  isStill: boolean;
}

/** The code of a service restart, in the registry of RFC 6455. */
export const RESTART = 1012;

/** The label of the channel of a request. If it names none there is only one, or the request was refused. */
export const labelOf = (proxy: Proxy, channel: string | undefined): string =>
  channel ?? proxy.listChannels()[0]?.label ?? '';

/** The process of a control server. A program that embeds one implements this. */
export interface ProcessControl {
  /** The operator's name for the process, or null. */
  readonly name: string | null;
  /** Program and version, such as `vproxy 0.1.0`. */
  readonly version: string;
  /** The minimum level of the log. Set by requests. */
  logLevel: LogLevel;
  /** Lines that could not be written to the log and the audit log. Default: none. */
  readonly lostLines?: LostLines;
  /** The configuration in effect, in the form of a configuration file, as a JSON value. */
  readonly config: unknown;
  /** Options of added channels that the request omits. Default: the defaults of `ChannelOptions`. */
  readonly channelDefaults?: Omit<ChannelOptions, 'address' | 'label' | 'group' | 'forwards' | 'template'>;
  /** How many channels must have a session for `/readyz`: `any` is one. Default `any`. */
  readonly ready?: 'any' | 'all' | number;
  /** The URL of a port of a peer, for a browser on this machine; null if there is none. Default: none. */
  portUrl?(channel: string, port: number): string | null;
  /** Whether it drains, so that it is not ready. Default false. */
  readonly isDraining?: boolean;
  /**
   * Reloads the configuration and applies it. Rejects with `bad-file`, `bad-argument` or `address-…` codes, without any
   * change.
   */
  reload(): Promise<ReloadAnswer>;
  /**
   * Hands everything over to a successor; calls `answer` just before the process exits. On `upgrade-failed` the process
   * continues. Default: upgrades are not supported.
   */
  upgrade?(request: UpgradeRequest, answer: (answer: UpgradeAnswer) => void): Promise<never>;
  /** Opens no more streams, and ends the process when all open streams have ended, or after `timeoutMs`. */
  drain(timeoutMs: number): void;
  /** Shuts the process down now. */
  stop(): void;
}

/** Options of an upgrade. */
export interface UpgradeRequest {
  /** The path of the program; null: the one that this process was started as. */
  readonly program: string | null;
  /** How long to wait for the end of what cannot be handed over, in milliseconds. */
  readonly waitMs: number;
  /** Whether to reset streams that only a guest can end after that time. */
  readonly isForced: boolean;
}
