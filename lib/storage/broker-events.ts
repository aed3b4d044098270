/** What a storage broker tells its log. */
import type { VproxyError } from '../errors.js';

/** A call that has ended. What it names came from a wrapper or an emulator: show it escaped. */
export interface StorageCallRecord {
  /** The command line; empty where no valid request came. */
  readonly argv: readonly string[];
  /** From the complete request to the answer, or to the end of the wrapper. */
  readonly durationMs: number;
  /** Which emulator had the request: `attached N`, or `peer`; undefined where none had. */
  readonly emulator?: string | undefined;
  /** The exit status of the reply. */
  readonly status?: number | undefined;
  /** The reply as the emulator sent it, in bytes. */
  readonly replyBytes?: number | undefined;
  /** Why there is no reply; `cancelled` when the wrapper went first. */
  readonly error?: VproxyError | undefined;
}

/** A change in an emulator's availability. */
export interface StorageEmulatorChange {
  /** `attached N`, or `peer`. */
  readonly name: string;
  /** `refused`: its opening failed, and calls wait for it. */
  readonly state: 'attached' | 'detached' | 'refused';
  /** Why, where it is not an ordinary end. */
  readonly reason?: VproxyError | undefined;
}

/** The events of a `StorageBroker`. */
export interface StorageBrokerEvents {
  call: [StorageCallRecord];
  emulator: [StorageEmulatorChange];
}
