/** What the page asks the server of `vproxy web` for, once a second: JSON values. Texts of a peer in them are as the peer sent them. */
import type {
  ChannelStatus,
  EgressQuestion,
  EgressStats,
  EgressStatus,
  ForwardStatus,
  JobOfChannel,
  Machine,
  PortWithUrl,
  ServiceStatus,
  StreamWithRates,
} from '../lib/status/types.js';

/** How good a state is, for its colour. */
export type Tone = 'good' | 'doubtful' | 'bad';

/** What this server lets a page do and see. */
export interface Permissions {
  /** Whether nothing may be changed, and no files, outputs or terminals seen. */
  readonly isReadOnly: boolean;
  readonly hasRecordings: boolean;
}

/** A process that is watched. */
export interface WatchedProcess {
  /** Its name in requests to the server. */
  readonly key: string;
  readonly pid: number | null;
  readonly version: string | null;
  /** Why it does not answer; null if it does. */
  readonly trouble: string | null;
}

/** A channel, in a table of all. */
export interface MachineRow {
  readonly process: string;
  readonly label: string;
  /** As `vproxy status` shows it: the state, or `silent`, or `unsteady`. */
  readonly state: string;
  readonly tone: Tone;
  /** Since when, ISO 8601. */
  readonly since: string;
  /** What it waits for, or what to do about it; or null. */
  readonly detail: string | null;
  readonly peer: string | null;
  readonly roundTripMs: number | null;
  readonly streams: number;
  /** Bytes per second now. */
  readonly sendRate: number;
  readonly receiveRate: number;
  /** Bytes per second, both directions together, a value every `STEP_MS`, the newest last. */
  readonly recent: readonly number[];
  /** The number of destinations that wait for an answer. */
  readonly asked: number;
  /** Facts about the machine, at most two minutes old; null if it does not tell. */
  readonly machine: Pick<Machine, 'load' | 'processors' | 'memory'> | null;
}

/** `GET /api/machines`. */
export interface MachinesView extends Permissions {
  readonly processes: readonly WatchedProcess[];
  /** The rows from `from` on. */
  readonly rows: readonly MachineRow[];
  readonly from: number;
  /** How many match, and how many there are. */
  readonly matching: number;
  readonly total: number;
  /** How many of all are not good. */
  readonly troubled: number;
  /** Questions on all channels, oldest first, at most `MOST_LISTED`. */
  readonly questions: readonly (EgressQuestion & { readonly process: string })[];
}

/** The orders of the table. */
export const ORDERS = ['name', 'trouble', 'traffic'] as const;

/** Values of the last hour, one every `STEP_MS`. */
export interface HistoryPart {
  /** The number of the first value, and of the one that follows the last: ask with it for the next. */
  readonly first: number;
  readonly next: number;
  readonly sendRates: readonly number[];
  readonly receiveRates: readonly number[];
  /** Milliseconds; null where it was not known. */
  readonly roundTrips: readonly (number | null)[];
}

/** The time between two values of a history, in milliseconds. */
export const STEP_MS = 5000;

/** Lists are cut to this many. */
export const MOST_LISTED = 200;

/** `GET /api/machine`: one channel, whole. */
export interface MachineView {
  readonly row: MachineRow;
  readonly channel: ChannelStatus;
  readonly history: HistoryPart;
  /** The busiest first, at most `MOST_LISTED` of `streamCount`. */
  readonly streams: readonly StreamWithRates[];
  readonly streamCount: number;
  readonly forwards: readonly ForwardStatus[];
  readonly services: readonly ServiceStatus[];
  readonly ports: readonly PortWithUrl[];
  readonly egresses: readonly EgressStatus[];
  readonly egressStats: readonly EgressStats[];
  /** Null: not asked for, or the peer does not run commands for this side; a text: why they are not known. */
  readonly jobs: readonly JobOfChannel[] | string | null;
  readonly machine: Machine | null;
}

/** `GET /api/recordings`. The bytes of one, by its `name`: `GET /api/recording`. */
export interface RecordingsView {
  /** The newest first, at most `MOST_LISTED` of `total`. */
  readonly recordings: readonly { readonly name: string; readonly size: number; readonly modifiedAt: string }[];
  readonly total: number;
}
