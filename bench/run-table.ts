/** The run that ends in the table of figures. */
import type { Contender, ContenderSetting } from './contenders/contender.js';
import { CHANNEL_LOADS, CHANNELS, measureChannels } from './many/channels.js';
import type { BenchOptions } from './options.js';
import type { RunningProgram } from './process/programs.js';
import { compareWithBars, formatBars } from './report/bars.js';
import { type Column, formatFailures, formatFigures } from './report/figures-table.js';
import { figureRecords, formatReport } from './report/json.js';
import { Results, rowsOf } from './results.js';
import { runRounds } from './rounds.js';
import { WORK } from './work/list.js';
import { STORAGE_CALL, STORAGE_CALLERS, StorageCalls } from './work/storage-call.js';

/** What a run has at hand. */
export interface RunSetting {
  readonly setting: ContenderSetting;
  readonly target: RunningProgram;
  readonly progress: (line: string) => void;
}

/** What a run leaves: a text for people, and the content of the JSON file. */
export interface RunReport {
  readonly text: string;
  readonly json: string;
  /** Drawings by the names of their files. */
  readonly drawings?: ReadonlyMap<string, string>;
}

/** Measures, and reports. */
export async function runTable(options: BenchOptions, run: RunSetting): Promise<RunReport> {
  const { rounds, only, contenders, amounts } = options;
  const results = new Results();
  const works = WORK.filter(({ id }) => only.test(id));
  const missing = listMissing(contenders);
  const present = contenders.filter(({ id }) => !missing.has(id));
  if (works.length > 0) {
    await runRounds({ ...run, quick: options.quick, rounds, contenders: present, works, amounts }, results);
  }
  const hasStorage = only.test(STORAGE_CALL.id);
  if (hasStorage) await measureStorage(options, run, results);
  const hasChannels = only.test(CHANNELS.id);
  if (hasChannels) await measureManyChannels(options, run, results);
  const rows = rowsOf(works, amounts);
  const storageRows = hasStorage ? rowsOf([STORAGE_CALL], amounts) : [];
  const channelRows = hasChannels ? rowsOf([CHANNELS], amounts) : [];
  const bars = compareWithBars(results);
  const texts = [
    works.length > 0 ? formatFigures(rows, contenders, new Set(missing.keys()), results) : '',
    hasStorage ? formatFigures(storageRows, STORAGE_CALLERS, new Set(), results) : '',
    hasChannels ? formatFigures(channelRows, CHANNEL_LOADS, new Set(), results) : '',
    formatBars(bars),
    formatNotes(options, missing, [
      ...formatFailures(rows, present, results),
      ...formatFailures(storageRows, STORAGE_CALLERS, results),
      ...formatFailures(channelRows, CHANNEL_LOADS, results),
    ]),
  ];
  const ids = [...contenders, ...STORAGE_CALLERS, ...CHANNEL_LOADS].map(({ id }: Column) => id);
  return {
    text: texts.filter((text) => text !== '').join('\n\n'),
    json: formatReport({
      options: {
        rounds,
        only: only.source,
        contenders: contenders.map(({ id }) => id),
        quick: options.quick,
        ...amounts,
      },
      missing: Object.fromEntries(missing),
      figures: figureRecords([...rows, ...storageRows, ...channelRows], ids, results),
      bars,
    }),
  };
}

/** What cannot run here, with what to do about it. */
export function listMissing(contenders: readonly Contender[]): Map<string, string> {
  return new Map(contenders.map(({ id, missing }) => [id, missing()] as const).filter(isMissing));
}

const isMissing = (entry: readonly [string, string | undefined]): entry is readonly [string, string] =>
  entry[1] !== undefined;

async function measureStorage({ rounds, amounts }: BenchOptions, run: RunSetting, results: Results): Promise<void> {
  const { setting, progress } = run;
  let calls: StorageCalls;
  try {
    calls = await StorageCalls.start(setting.programs, setting.folder);
  } catch (error) {
    const failure = error instanceof Error ? error.message : String(error);
    for (const { id } of STORAGE_CALLERS) results.add(STORAGE_CALL.id, id, { ms: failure });
    return;
  }
  try {
    for (let round = 0; round < rounds; round += 1) {
      progress(`round ${round + 1} of ${rounds}: ${STORAGE_CALL.id}`);
      for (const { id } of STORAGE_CALLERS) {
        results.add(STORAGE_CALL.id, id, await calls.measure(id, amounts.storageCalls));
      }
    }
  } finally {
    await calls.stop();
  }
}

/** It takes long and gives the same result each time: with `--quick` once is enough. */
async function measureManyChannels(
  { rounds, quick, amounts }: BenchOptions,
  { setting, progress }: RunSetting,
  results: Results,
): Promise<void> {
  for (let round = 0; round < (quick ? 1 : rounds); round += 1) {
    progress(`round ${round + 1} of ${rounds}: ${CHANNELS.id}`);
    try {
      const outcomes = await measureChannels(setting.programs, setting.folder, amounts);
      for (const { id } of CHANNEL_LOADS) results.add(CHANNELS.id, id, outcomes[id]);
    } catch (error) {
      const failure = error instanceof Error ? error.message : String(error);
      for (const { id } of CHANNEL_LOADS) results.add(CHANNELS.id, id, { memory: failure });
    }
  }
}

function formatNotes(options: BenchOptions, missing: ReadonlyMap<string, string>, failures: readonly string[]): string {
  return [
    `Medians of ${options.rounds} rounds, and below them the smallest and the largest. "fails" and "!": see below.`,
    ...[...missing].map(([id, hint]) => `${id} is missing: ${hint}`),
    ...failures,
  ].join('\n');
}
