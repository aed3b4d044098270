/** The command line of `npm run bench`. */
import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { Contender } from './contenders/contender.js';
import { CONTENDERS } from './contenders/list.js';
import type { Amounts } from './work/work.js';

/** The file names of the plots of `--axis`. */
const PLOT_FILES = 'streams.svg, messages.svg, latency.svg';

const CONTENDER_IDS = CONTENDERS.map(({ id }) => id).join(', ');

/** What `--help` prints. */
export const HELP = `npm run bench -- [OPTIONS]

Compares vproxy with its peers, on the same work in the same run.

  --rounds N         number of rounds, interleaved over the contenders (5; with --quick 2)
  --megabytes N      size of one bulk transfer over all its streams, in MB (400; with --quick 60)
  --only REGEX       only work whose name matches: up-1, down-64, echo-1, connections-16, beside-bulk, idle, channels, egress, ansible, tools, …;
                     with --axis: streams, messages, latency
  --contenders A,B   only these: ${CONTENDER_IDS}
  --quick            everything, in at most three minutes; the report lists what was left out
  --axis             plots instead of the table: figures by streams, message size and latency of the channel;
                     2 rounds (with --quick 1) in about eight minutes (three), of vproxy, relays and yamux
  --plots FOLDER     with --axis: the folder of the plots, one for each axis: ${PLOT_FILES} (bench-plots)
  --documents        write the figures into README.md, docs/performance.md and its notebook: the tables that were measured
                     completely, by every contender
  --json FILE        the file of the figures (bench.json)
  --help             show this help
`;

/** The options of a run. */
export interface BenchOptions {
  readonly help: boolean;
  readonly axis: boolean;
  readonly quick: boolean;
  /** No work starts later than this after the start of the run, in milliseconds. */
  readonly beginUntilMs: number;
  readonly rounds: number;
  readonly only: RegExp;
  readonly contenders: readonly Contender[];
  /** Whether `--contenders` was given. */
  readonly hasChosenContenders: boolean;
  readonly documents: boolean;
  readonly json: string;
  /** The folder of the plots. */
  readonly plots: string;
  readonly amounts: Amounts;
}

/** An invalid command line; its message is one line. */
export class UsageError extends Error {}

/** Parses the arguments. Throws `UsageError`. */
export function parseBenchOptions(args: readonly string[]): BenchOptions {
  const values = parseValues(args);
  const { quick = false, axis = false, documents = false } = values;
  refuseBeside(documents, '--axis', axis);
  refuseBeside(documents, '--quick', quick);
  refuseBeside(documents, '--contenders', values.contenders !== undefined);
  const bytes = 1e6 * parseCount('--megabytes', values.megabytes ?? (quick ? '60' : '400'));
  return {
    help: values.help ?? false,
    axis,
    quick,
    beginUntilMs: quick ? QUICK_MS : Infinity,
    rounds: parseCount('--rounds', values.rounds ?? defaultRounds(quick, axis)),
    only: parsePattern(values.only ?? ''),
    contenders: values.contenders === undefined ? CONTENDERS : parseContenders(values.contenders),
    hasChosenContenders: values.contenders !== undefined,
    documents,
    json: parsePlace('--json', 'a file', values.json ?? 'bench.json'),
    plots: parsePlace('--plots', 'a folder', values.plots ?? 'bench-plots'),
    amounts: quick ? { ...QUICK_AMOUNTS, bytes } : { ...FULL_AMOUNTS, bytes },
  };
}

/** With `--quick`: work that starts before this ends within three minutes. */
const QUICK_MS = 160_000;

const FULL_AMOUNTS: Omit<Amounts, 'bytes'> = {
  timeoutMs: 30_000,
  echoes: 5000,
  connections: 3000,
  besideMs: 3000,
  idleStreams: [1000, 2000, 10_000],
  restMs: 3000,
  storageCalls: 10,
  commands: 21,
  ansibleTasks: 20,
  toolMs: 3000,
  channels: 200,
  channelsMs: 10_000,
};

const QUICK_AMOUNTS: Omit<Amounts, 'bytes'> = {
  timeoutMs: 5000,
  echoes: 1000,
  connections: 500,
  besideMs: 700,
  idleStreams: [1000],
  restMs: 1000,
  storageCalls: 4,
  commands: 5,
  ansibleTasks: 4,
  toolMs: 1000,
  channels: 200,
  channelsMs: 2000,
};

function parseValues(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        rounds: { type: 'string' },
        megabytes: { type: 'string' },
        only: { type: 'string' },
        contenders: { type: 'string' },
        quick: { type: 'boolean' },
        axis: { type: 'boolean' },
        documents: { type: 'boolean' },
        json: { type: 'string' },
        plots: { type: 'string' },
        help: { type: 'boolean' },
      },
    }).values;
  } catch (error) {
    // The first sentence has the error; the rest explains Node's conventions.
    throw new UsageError((error as Error).message.split(/[.\n]/)[0] ?? '');
  }
}

function refuseBeside(documents: boolean, option: string, isGiven: boolean): void {
  if (documents && isGiven) throw new UsageError(`--documents cannot be used with ${option}`);
}

function defaultRounds(quick: boolean, axis: boolean): string {
  if (axis) return quick ? '1' : '2';
  return quick ? '2' : '5';
}

/** Parses a count. Throws `UsageError`. */
export function parseCount(option: string, text: string): number {
  if (/^\d{1,6}$/.test(text) && Number(text) > 0) return Number(text);
  throw new UsageError(`${option}: ${JSON.stringify(text)} must be a number from 1 to 999999`);
}

/** Parses the pattern that selects work. Throws `UsageError`. */
export function parsePattern(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch {
    throw new UsageError(`--only: ${JSON.stringify(text)} is not a valid regular expression`);
  }
}

function parseContenders(text: string): Contender[] {
  return [...new Set(text.split(','))].map((id) => {
    const contender = CONTENDERS.find((known) => known.id === id);
    if (contender !== undefined) return contender;
    throw new UsageError(`--contenders: no contender ${JSON.stringify(id)}; available: ${CONTENDER_IDS}`);
  });
}

/** Parses the name of an output file, whose folder must exist. Throws `UsageError`. */
export function parsePlace(option: string, what: string, text: string): string {
  if (text === '') throw new UsageError(`${option}: missing value; expected the name of ${what}`);
  // Reported now rather than after the measurement.
  if (!existsSync(dirname(resolve(text)))) throw new UsageError(`${option}: no such folder: ${JSON.stringify(text)}`);
  return text;
}
