/** What a channel gets from its proxy, and what it leaves to a successor process. */
import type { VproxyError } from '../../errors.js';
import type { Log } from '../../events.js';
import type { ResolvedName } from '../../forward/redirect/resolved-names.js';
import type { ForwardSpec } from '../../forward/spec.js';
import type { ForwardStatus } from '../../status/types.js';
import type { TakeDescriptor } from '../../system/descriptors.js';
import type { Clock } from '../../util/clock.js';
import type { EgressChanges } from '../egress/grants.js';
import type { ForwardAddresses, ForwardEntryState } from '../forward-table.js';
import type { ChannelPortsState } from '../ports/channel-ports.js';
import type { ProgramSocketState } from '../services/program-streams.js';
import type { StorageState } from '../services/storage.js';
import type { StreamEnds } from '../services/stream-ends.js';
import type { ProcessIdentity, WrittenOptions } from './channel-options.js';
import type { ChannelRecordState, Whereabouts } from './channel-sessions.js';
import type { CheckedChannel } from './check-channel.js';
import type { LineBytes } from './log-limit.js';
import type { FindRival } from './rival.js';
import type { SupervisorState } from './supervisor.js';

/** The channel that calls back. */
type ChannelName = Pick<CheckedChannel, 'label' | 'options'>;

export interface ProxyChannelContext {
  readonly identity: ProcessIdentity;
  readonly clock: Clock;
  readonly nextForwardId: () => string;
  readonly addresses: ForwardAddresses;
  readonly findRival: FindRival;
  /** How the streams of programs ended. */
  readonly streamEnds: StreamEnds;
  /** Creates the missing folders of a channel's unix sockets; they are removed with it. Throws `address-…` codes. */
  readonly makeFolders: (label: string, forwards: readonly ForwardSpec[]) => void;
  /** Returns the bytes that an event takes in the log. */
  readonly lineBytes: LineBytes;
  readonly log: Log;
  /** For the audit log, where `log-limited` counts suppressed lines. */
  readonly audit: Log;
  /** Whether anything listens to the audit log. */
  readonly isAuditing: () => boolean;
  /** A session of the channel ended without replacement, or none is possible: see `ProxyEvents`. */
  readonly onEnded: (channel: ChannelName, reason: VproxyError) => void;
  /** The session, its peer's services, or the state of the channel changed. */
  readonly onChanged: (channel: ChannelName) => void;
  readonly onListening: (forward: ForwardStatus) => void;
  /** The channel can never work, or never again. */
  readonly onFatal: (channel: ChannelName, reason: VproxyError) => void;
}

export interface ProxyChannelState {
  /** Or the number under which the successor has checked them before. */
  readonly options: WrittenOptions | number;
  readonly isDeclared: boolean;
  /** The indexes of all its descriptors. */
  readonly descriptors: readonly number[];
  readonly record: ChannelRecordState;
  /** The whereabouts of its session; null if it has none. */
  readonly whereabouts: Whereabouts | null;
  readonly forwards: readonly ForwardEntryState[];
  readonly ports: ChannelPortsState;
  readonly storage: StorageState;
  /** The sockets of programs with streams to the peer. */
  readonly programs: readonly ProgramSocketState[];
  readonly egresses: EgressChanges;
  /** Missing from a predecessor that did not know redirected programs. */
  readonly names?: readonly ResolvedName[];
  readonly supervisor: SupervisorState;
}

/** A predecessor's state, with its descriptors. */
export interface Restored<State> {
  readonly state: State;
  readonly take: TakeDescriptor;
}
