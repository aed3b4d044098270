/** What a proxy is made of, what it tells, and what it leaves to a successor process. */
import type { VproxyError } from '../errors.js';
import type { LogEvent } from '../events.js';
import type { ChannelTally } from '../status/channel-tally.js';
import type { ForwardStatus, PortStatus } from '../status/types.js';
import type { Clock } from '../util/clock.js';
import type { ProxyChannelState, Restored } from './channel/channel-context.js';
import type { ChannelOptions } from './channel/channel-options.js';
import type { ChannelSessions } from './channel/channel-sessions.js';
import type { CheckedChannel } from './channel/check-channel.js';
import type { FindRival } from './channel/rival.js';
import type { ForwardTable } from './forward-table.js';
import type { GroupState } from './groups/channel-group.js';
import type { StreamEndsState } from './services/stream-ends.js';

/** Options for a `Proxy`. */
export interface ProxyOptions {
  /** Channels, and groups of channels. */
  readonly channels: readonly ChannelOptions[];
  /** Program and version, sent to the peers. */
  readonly agent: string;
  /** Default `systemClock`. */
  readonly clock?: Clock;
  /** Returns the bytes that an event takes in the log, for its rate limits. Default: the size of its JSON. */
  readonly lineBytes?: (event: LogEvent) => number;
  /**
   * Looks for another process of this machine that has a session on the same channel, or its device open. Called when
   * another connection displaced ours, when a device is busy, or when the peer does not answer. Default: finds none.
   *
   * @internal
   */
  readonly findRival?: FindRival;
  /**
   * A predecessor's state, used instead of `channels`; then call `goOn` instead of `start`. Default: none.
   *
   * @internal
   */
  readonly restored?: Legacy;
}

/** What a predecessor leaves. */
export interface Legacy extends Restored<ProxyState> {
  /** The channels that were checked before, by number. */
  readonly checked: readonly CheckedChannel[];
  /** Further channels, all checked, which `goOn` restores in turns once the others continue. */
  readonly idle: Iterable<ProxyChannelState>;
}

/** State of a proxy for a successor process: plain data that only the same version understands. */
export interface ProxyState {
  readonly instance: string;
  readonly forwardCount: number;
  /** The labels of all channels, in their order. */
  readonly labels: readonly string[];
  readonly channels: readonly ProxyChannelState[];
  readonly groups: readonly GroupState[];
  readonly streamEnds: StreamEndsState;
  /** The folders that were created for channels, by label. */
  readonly folders: Map<string, Set<string>>;
}

/** The events of a `Proxy`. */
export interface ProxyEvents {
  /** A line for the log. */
  log: [event: LogEvent];
  /** A line for the audit log: who opened what, with what outcome. `log-limited` counts suppressed lines. */
  audit: [event: LogEvent];
  /**
   * A session of a channel ended and no other replaced it; or a channel that this side opens cannot have one, because the two
   * sides reject each other or have no protocol version in common. The proxy keeps retrying.
   */
  ended: [label: string, reason: VproxyError];
  /**
   * A channel gained or lost its session, its peer changed its services, it waits for something else, or it can never work:
   * see `listChannels`.
   */
  changed: [];
  /** An outgoing forward is listening. */
  listening: [forward: ForwardStatus];
  /** No channel is left that could ever work: stop the proxy and exit with the status of the code. */
  fatal: [reason: VproxyError];
}

/** Options for removing a forward or a channel. */
export interface RemoveOptions {
  /** Whether open streams may finish. Default true. */
  readonly isDraining?: boolean;
}

/**
 * What the metrics show of a channel, read on request.
 *
 * @internal
 */
export interface MeasuredChannel {
  readonly label: string;
  readonly sessions: Pick<ChannelSessions, 'measure'>;
  readonly forwards: Pick<ForwardTable, 'count' | 'listMessages'>;
  readonly ports: { list(): PortStatus[] };
  readonly tally: ChannelTally;
}
