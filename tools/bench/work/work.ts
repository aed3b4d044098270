/** A piece of work, done by one contender in one round, and the rows of the table that it fills. */
import type { Contender, RunningContender } from '../contenders/contender.js';
import type { LoadClient } from '../load/load-client.js';
import type { RunningProgram } from '../process/programs.js';

/** The amounts of one round. */
export interface Amounts {
  /** The deadline of one piece of work of one contender, in milliseconds. */
  readonly timeoutMs: number;
  /** Bytes of one bulk transfer, over all its streams together. */
  readonly bytes: number;
  /** Messages of one echo measurement. */
  readonly echoes: number;
  /** Connections of one measurement of connections. */
  readonly connections: number;
  /** How long an echo is measured beside bulk, in milliseconds. */
  readonly besideMs: number;
  /** Numbers of idle streams, growing. */
  readonly idleStreams: readonly number[];
  /** How long a side is idle before its memory at rest is read, in milliseconds. */
  readonly restMs: number;
  /** Storage calls of each kind. */
  readonly storageCalls: number;
  /** Runs of each command. */
  readonly commands: number;
  /** Tasks of one play of Ansible. */
  readonly ansibleTasks: number;
  /** How long each tool loads a contender in one measurement, in milliseconds; the warm-up is longer. */
  readonly toolMs: number;
  /** Channels of one process. */
  readonly channels: number;
  /** How long they are observed, at rest and then with a trickle on each, in milliseconds. */
  readonly channelsMs: number;
}

/** The means of doing a piece of work. */
export interface WorkContext {
  readonly contender: Contender;
  /** The contender, warmed up. */
  readonly running: RunningContender;
  readonly load: LoadClient;
  /** A second process for traffic beside the load of the first. */
  readonly secondLoad: LoadClient;
  readonly target: RunningProgram;
  readonly amounts: Amounts;
  /** The number of descriptors that a process may have. */
  readonly descriptorLimit: number;
  /** Starts another instance of the contender beside the warm one; the caller stops it. */
  readonly startFresh: () => Promise<RunningContender>;
}

/** The first rows of the table, in this order: the most frequent questions. */
export const FIRST_PARTS = ['start', 'memory', 'cpu'] as const;

/** A row of the table. */
export interface Row {
  /** Without it, the row follows those, in the order of the work. */
  readonly part?: (typeof FIRST_PARTS)[number];
  readonly key: string;
  readonly title: string;
  readonly unit: string;
}

/** The outcomes by row key: a figure, or why it is missing. A missing key does not apply. */
export type Outcomes = Readonly<Record<string, number | string>>;

/** The beginning of an outcome that is not a failure, but not possible on this machine. */
export const NOT_TRIED = 'not tried';

export interface Work {
  /** The name that `--only` matches, and the name in the JSON file. */
  readonly id: string;
  rows(amounts: Amounts): readonly Row[];
  /** Whether it is so slow that `--quick` does it in the first round only. */
  readonly isSlow?: boolean;
  /** Does it once. Rejects when the contender fails, which is then restarted. */
  measure(context: WorkContext): Promise<Outcomes>;
}

/** The ids of a side's programs. */
export const pidsOf = (programs: readonly RunningProgram[]): number[] => programs.map(({ pid }) => pid);

/** Ends both sides. */
export async function stopSides({ near, far }: RunningContender): Promise<void> {
  await Promise.all([...near, ...far].map((program) => program.stop()));
}
