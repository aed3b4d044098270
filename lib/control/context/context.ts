/** What requests are answered from: the proxy, its process, and what the control server keeps between requests. */
import type { LogLevel } from '../../events.js';
import type { ChannelOptions } from '../../proxy/channel-options.js';
import type { Proxy } from '../../proxy/proxy.js';
import type { ReloadAnswer, UpgradeAnswer } from '../../status/types.js';
import type { EventLoopDelay } from './event-loop-delay.js';
import type { EventRing } from './event-ring.js';
import type { StreamEnds } from './join-stream.js';
import type { StreamRates } from './stream-rates.js';

/** What the handler of a request works on. */
export interface ControlContext {
  readonly proxy: Proxy;
  readonly process: ProcessControl;
  readonly ring: EventRing;
  readonly rates: StreamRates;
  readonly ends: StreamEnds;
  readonly eventLoopDelay: EventLoopDelay;
}

/** The label of the channel that a request means: where it names none there is one only, or it was refused. */
export const labelOf = (proxy: Proxy, channel: string | undefined): string =>
  channel ?? proxy.listChannels()[0]?.label ?? '';

/** The process that a control server is in. A program with a control server of its own says what these mean there. */
export interface ProcessControl {
  /** The operator's name for the process, or null. */
  readonly name: string | null;
  /** Program and version, such as `vproxy 0.1.0`. */
  readonly version: string;
  /** What the log shows. Set by requests. */
  logLevel: LogLevel;
  /** What is in force: the form of a configuration file, as a value for JSON. */
  readonly config: unknown;
  /** What a channel gets that a request adds and says nothing about. Default: the defaults of `ChannelOptions`. */
  readonly channelDefaults?: Omit<ChannelOptions, 'address' | 'label' | 'group' | 'forwards' | 'template'>;
  /**
   * Reads the configuration again and puts it in force. Rejects with `bad-file`, `bad-argument` or `address-…` codes,
   * and nothing has changed then.
   */
  reload(): Promise<ReloadAnswer>;
  /**
   * Hands over to a successor, which goes on with all that the process has; `answer` is called just before the process
   * exits. Rejects with `upgrade-failed`, and the process goes on then. Default: there are no upgrades.
   */
  upgrade?(request: UpgradeRequest, answer: (answer: UpgradeAnswer) => void): Promise<never>;
  /** Opens no more streams, and ends the process when those that are open have ended, or after `timeoutMs`. */
  drain(timeoutMs: number): void;
  /** Ends the process now, in order. */
  stop(): void;
}

/** How a process is to hand over to a successor. */
export interface UpgradeRequest {
  /** The path of the program; null: the one that the process was started as. */
  readonly program: string | null;
  /** How long what cannot be handed over may take to end, in milliseconds. */
  readonly waitMs: number;
  /** Whether streams that only a guest can end are cut then. */
  readonly isForced: boolean;
}
