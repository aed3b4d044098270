/** The records about jobs (R-JOBS-1 to 8); those that all commands have are in exec-messages.ts. */
import { isObject } from '../../../codec/json.js';
import { naming } from '../../../errors.js';
import type { ExecResult, JobStatus } from '../../../status/types.js';
import { encodeRecord } from '../../../util/bytes/records.js';
import {
  decode,
  decodeRequest,
  decodeUsage,
  fault,
  isCount,
  isText,
  optional,
  requireBoolean,
  requireDelay,
  requireSize,
  requireText,
  requireWhole,
  wrong,
} from '../exec-messages.js';

/** Where a reader of a job begins: at most one of them. Default: the first kept byte. */
export interface JobPlace {
  /** The number of the first byte wanted. */
  readonly from?: number | undefined;
  /** Bytes before the end. */
  readonly tail?: number | undefined;
}

/** Output of a job. */
export interface JobOutput {
  /** The kind of piece. */
  readonly kind: 'output';
  /** The number of the first byte. */
  readonly at: number;
  /** What the job wrote, to either of its outputs. */
  readonly bytes: Buffer;
}

/** Output of a job that is no longer kept. */
export interface JobGap {
  /** The kind of piece. */
  readonly kind: 'gap';
  /** The number of the first byte. */
  readonly at: number;
  /** How many bytes there were. */
  readonly droppedBytes: number;
}

/** The end of a job. */
export interface JobEnd {
  /** The kind of piece. */
  readonly kind: 'end';
  /** How it ended. */
  readonly result: ExecResult;
}

/** A piece of what a reader of a job gets; the end is the last one. */
export type JobPiece = JobOutput | JobGap | JobEnd;

/** Encodes a record whose payload is JSON. */
export const encodeJson = (kind: number, value: object): Buffer => encodeRecord(kind, JSON.stringify(value));

/** An ATTACH or a STOP. */
export interface JobRequest extends JobPlace {
  readonly id: string;
  /** Whether the caller becomes its writer, also in place of another; and with which size of its terminal. */
  readonly input?: boolean | undefined;
  readonly steal?: boolean | undefined;
  readonly columns?: number | undefined;
  readonly rows?: number | undefined;
  /** Milliseconds from TERM to KILL. */
  readonly killAfterMs?: number | undefined;
}

/** Encodes an ATTACH or a STOP. Throws `bad-argument` if the runner would refuse it. */
export const encodeJobRequest = (kind: number, request: JobRequest): Buffer =>
  encodeJson(kind, requestOf({ ...request }));

/** Decodes an ATTACH or a STOP, as `what`. Throws `bad-argument`. */
export function decodeJobRequest(payload: Buffer, what: string): JobRequest {
  const object = decodeRequest(payload, what);
  return naming(what, () => requestOf(object));
}

function requestOf(object: Record<string, unknown>): JobRequest {
  const id = requireText('id', object['id']);
  const from = optional(object, 'from', requirePosition);
  const tail = optional(object, 'tail', requirePosition);
  const killAfterMs = optional(object, 'killAfterMs', requireDelay);
  if (from !== undefined && tail !== undefined) throw fault('tail', 'place');
  const input = optional(object, 'input', requireBoolean);
  const steal = optional(object, 'steal', requireBoolean);
  const [columns, rows] = ['columns', 'rows'].map((side) => optional(object, side, requireSize));
  if ((columns ?? rows) !== undefined)
    [columns, rows].forEach((side, at) => requireSize(at === 0 ? 'columns' : 'rows', side));
  for (const [name, value] of Object.entries({ steal: steal || undefined, columns }))
    if (value !== undefined && input !== true) throw fault(name, 'input');
  return { id, from, tail, killAfterMs, input, steal, columns, rows };
}

const requirePosition = requireWhole(Number.MAX_SAFE_INTEGER);

/** A job that has started. */
export interface StartedJob {
  /** 8 hexadecimal digits, unique in the channel. */
  readonly id: string;
  /** Its process id there. */
  readonly pid: number;
}

/** Decodes the STARTED of a job. Throws `protocol-error`. */
export function decodeStartedJob(payload: Buffer): StartedJob {
  const { job: id, pid } = decode(payload, 'STARTED');
  if (!isJobId(id) || !isPid(pid)) throw wrong('STARTED', 'job');
  return { id, pid };
}

/** Decodes a FROM. Throws `protocol-error`. */
export function decodeFrom(payload: Buffer): number {
  const { from } = decode(payload, 'FROM');
  if (!isPosition(from)) throw wrong('FROM', 'from');
  return from;
}

/** Decodes a JOBS; drops unknown fields. Throws `protocol-error`. */
export function decodeJobs(payload: Buffer): JobStatus[] {
  const { jobs } = decode(payload, 'JOBS');
  if (!Array.isArray(jobs)) throw wrong('JOBS', 'jobs');
  return jobs.map((job) => {
    if (!isObject(job)) throw wrong('JOBS', 'a job');
    const found = Object.entries(FIELDS).map(([name, isValid]) => {
      // Older runners have none of these.
      const value = job[name] ?? (isValid === isBoolean ? false : job[name]);
      if (!isValid(value)) throw wrong('JOBS', name);
      return [name, value];
    });
    const usage = decodeUsage(job['usage']);
    if (usage === undefined) throw wrong('JOBS', 'usage');
    return { ...Object.fromEntries(found), usage } as JobStatus;
  });
}

type Check = (value: unknown) => boolean;

const orNull =
  (isValid: Check): Check =>
  (value) =>
    value === null || isValid(value);
const isJobId = (value: unknown): value is string => typeof value === 'string' && /^[0-9a-f]{8}$/.test(value);
const isPid = (value: unknown): value is number => isCount(value, 2 ** 31);
const isPosition = (value: unknown): value is number => isCount(value, Number.MAX_SAFE_INTEGER);
const isBoolean: Check = (value) => typeof value === 'boolean';
const isTime: Check = (value) =>
  isText(value) && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/.test(value) && !Number.isNaN(Date.parse(value));

const FIELDS: Readonly<Record<Exclude<keyof JobStatus, 'usage'>, Check>> = {
  id: isJobId,
  tag: orNull(isText),
  argv: (value) => Array.isArray(value) && value.every(isText),
  user: orNull(isText),
  pid: isPid,
  startedAt: isTime,
  endedAt: orNull(isTime),
  status: orNull((value) => isCount(value, 255)),
  signal: orNull(isText),
  timedOut: isBoolean,
  bytes: isPosition,
  keptFrom: isPosition,
  terminal: isBoolean,
  takesInput: isBoolean,
  hasWriter: isBoolean,
};
