/** What a control server can do with the process that it is in, besides its proxy. */
import type { ChannelChanges } from '../proxy/apply-channels.js';
import type { ChannelOptions } from '../proxy/channel-options.js';
import type { LogLevel } from '../util/log-event.js';

/** Given by the program; the command line has its own. */
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
  reload(): Promise<ChannelChanges>;
  /** Opens no more streams, and ends the process when those that are open have ended, or after `timeoutMs`. */
  drain(timeoutMs: number): void;
  /** Ends the process now, in order. */
  stop(): void;
}
