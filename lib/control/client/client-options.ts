/** The options of a client's methods. */
import type { VproxyError } from '../../errors.js';
import type { CopyOptions } from '../../services/copy/copy-call.js';
import type { ExecRequest } from '../../services/exec/exec-messages.js';
import type { JobPlace } from '../../services/exec/jobs/job-messages.js';
import type { WriterOptions } from '../../services/exec/jobs/job-writer.js';
import type { BootStatus } from '../../status/types.js';

/** Options for a stream. */
export interface StreamRequest {
  /** The label of the channel. Default: the only one. */
  readonly channel?: string | undefined;
  /** Resets the stream: a command ends, a request rejects with `cancelled`, or `exec-unavailable` once it was sent. */
  readonly signal?: AbortSignal | undefined;
}

/** Options for running a command. */
export interface CommandRequest extends StreamRequest, Omit<ExecRequest, 'argv'> {}

/** Options for a request about jobs. */
export interface JobRequest extends StreamRequest {
  /** The label of the channel. Default: the only one; for `jobs` all. */
  readonly channel?: string | undefined;
}

/** Options for ending a job. */
export interface StopRequest extends JobRequest {
  /** Milliseconds from `SIGTERM` to `SIGKILL`. Default 5,000. */
  readonly killAfterMs?: number | undefined;
}

/** Options for reading a job. */
export interface AttachRequest extends JobRequest, JobPlace {
  /** Called each time the job cannot be reached, before the next attempt. */
  readonly onLost?: (reason: VproxyError) => void;
}

/** Options for reading a job and writing to it. */
export interface JoinRequest extends AttachRequest, WriterOptions {}

/** Options for a copy. */
export interface CopyRequest extends CopyOptions {
  /** The label of the channel. Default: the only one. */
  readonly channel?: string | undefined;
}

/** Options for removing a forward or a channel. */
export interface RemovalRequest {
  /** `drain`: wait until its streams have ended; `now`: reset them. Default `drain`. */
  readonly mode?: 'drain' | 'now';
  /** Stops waiting; the removal continues. */
  readonly signal?: AbortSignal;
}

/** Options for an upgrade. */
export interface HandOverRequest {
  /** The path of the successor's program. Default: the one that the process was started as. */
  readonly program?: string | undefined;
  /** How long to wait for what cannot be handed over to end, from the start of the successor. Default 10. */
  readonly waitS?: number | undefined;
  /** Whether streams that only a guest can end are reset then. Default: the upgrade fails. */
  readonly force?: boolean | undefined;
  /** Stops waiting; the upgrade continues. */
  readonly signal?: AbortSignal | undefined;
}

/** Options for reading events. */
export interface EventsRequest {
  /** The number of past events to begin with. Default: all that are kept, at most 500. */
  readonly replay?: number;
  /** Whether to continue with new events. Default true. */
  readonly follow?: boolean;
  /** Ends the events normally. */
  readonly signal?: AbortSignal;
}

/** Options for waiting. */
export interface WaitRequest {
  /** A service that the peer must offer. Default: a session is enough. */
  readonly service?: string | undefined;
  /** The label of the channel. Default: any. */
  readonly channel?: string | undefined;
  /** Default 60. */
  readonly timeoutS?: number;
  /** Stops waiting. */
  readonly signal?: AbortSignal;
}

/** Options for requests about the peer's machine. */
export interface MachineRequest {
  /** The label of the channel. Default: the only one. */
  readonly channel?: string | undefined;
  /** Cancels the request. */
  readonly signal?: AbortSignal;
}

/** Options for a freeze. */
export interface FreezeRequest extends MachineRequest {
  /** Mount points, as absolute paths. Default: all that can be frozen. */
  readonly paths?: readonly string[] | undefined;
  /** The time after which the machine thaws by itself, in seconds. Default 10. */
  readonly forS?: number | undefined;
}

/** Options for waiting for a boot. */
export interface BootRequest extends MachineRequest {
  /** Default 60. */
  readonly timeoutS?: number;
  /** Called with each status while the machine is still booting. */
  readonly onBooting?: (status: BootStatus) => void;
}
