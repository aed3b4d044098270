/** What is measured: a piece of work, done by one contender in one round, and the rows of the table that it fills. */
import type { Contender, RunningContender } from '../contenders/contender.js';
import type { LoadClient } from '../load/load-client.js';
import type { RunningProgram } from '../process/programs.js';

/** How much of everything one round does. */
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
  /** How long a side is left alone before its memory at rest is read, in milliseconds. */
  readonly restMs: number;
  /** Storage calls of each kind. */
  readonly storageCalls: number;
  /** Runs of each command. */
  readonly commands: number;
  /** Tasks of one play of Ansible. */
  readonly ansibleTasks: number;
  /** Channels of one process. */
  readonly channels: number;
  /** How long they are watched, at rest and then with a little on each, in milliseconds. */
  readonly channelsMs: number;
}

/** What a piece of work is done with. */
export interface WorkContext {
  readonly contender: Contender;
  /** The contender, warmed up. */
  readonly running: RunningContender;
  readonly load: LoadClient;
  /** A second process for what goes on beside the load of the first. */
  readonly secondLoad: LoadClient;
  readonly target: RunningProgram;
  readonly amounts: Amounts;
  /** The number of descriptors that a process may have. */
  readonly descriptorLimit: number;
  /** Starts the contender once more, beside the warm one; to be stopped by the caller. */
  readonly startFresh: () => Promise<RunningContender>;
}

/** What the table begins with, in this order: what people ask first. */
export const FIRST_PARTS = ['start', 'memory', 'cpu'] as const;

/** A row of the table. */
export interface Row {
  /** Without it, the row stands behind those, in the order of the work. */
  readonly part?: (typeof FIRST_PARTS)[number];
  readonly key: string;
  readonly title: string;
  readonly unit: string;
}

/** What came out for the key of a row: a figure, or why it is missing. A key that is left out does not apply. */
export type Outcomes = Readonly<Record<string, number | string>>;

/** The start of the text of an outcome that is not a failure: the machine does not allow it. */
export const NOT_TRIED = 'not tried';

export interface Work {
  /** What `--only` is matched with, and the name in the JSON file. */
  readonly id: string;
  rows(amounts: Amounts): readonly Row[];
  /** Takes so long that `--quick` does it in the first round only. */
  readonly isSlow?: boolean;
  /** Does it once. Rejects when the contender fails; it is then started again. */
  measure(context: WorkContext): Promise<Outcomes>;
}

/** The ids of a side's programs. */
export const pidsOf = (programs: readonly RunningProgram[]): number[] => programs.map(({ pid }) => pid);

/** Ends both sides. */
export async function stopSides({ near, far }: RunningContender): Promise<void> {
  await Promise.all([...near, ...far].map((program) => program.stop()));
}
