/** Requests to a client about commands and jobs. */
import type { VproxyError } from '../../errors.js';
import type { ExecRequest } from '../../services/exec/exec-messages.js';
import type { JobPlace } from '../../services/exec/jobs/job-messages.js';

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
