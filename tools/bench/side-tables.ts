/** The additional tables: each measures something specific, in its own columns. */
import { CHANNEL_LOADS, CHANNELS, measureChannels } from './many/channels.js';
import { FLEETS, HAND_OVER, measureHandOver } from './many/hand-over.js';
import type { BenchOptions } from './options.js';
import type { Column } from './report/figures-table.js';
import type { Results } from './results.js';
import type { RunSetting } from './run-table.js';
import { ANSIBLE, ANSIBLE_CONNECTIONS, AnsiblePlays } from './work/ansible.js';
import { COMMAND, COMMANDS, CommandTimes, REMOTE_COMMAND, REMOTE_COMMANDS } from './work/command.js';
import { DATAGRAM_CONTENDERS, DATAGRAM_TOOLS, measureDatagramTools } from './work/datagram-tools.js';
import { DATAGRAM_LOADS, DATAGRAMS, DatagramLoad } from './work/datagrams.js';
import { EGRESS, EgressTimes, WAYS_OUT } from './work/egress.js';
import { measureProcessStarts, PROCESS_STARTS, STARTERS } from './work/process-starts.js';
import { STORAGE_CALL, STORAGE_CALLERS, StorageCalls } from './work/storage-call.js';
import { TOOL_CONTENDERS, TOOLS_WORK, ToolRuns } from './work/tools.js';
import { NOT_TRIED, type Work } from './work/work.js';

/** One of them. */
export interface SideTable {
  /** The name that `--only` matches, and the rows. */
  readonly work: Pick<Work, 'id' | 'rows'>;
  readonly columns: readonly Column[];
  /** Measures all rounds, and records the outcomes in `results`. Rejects when nothing can be measured. */
  measure(options: BenchOptions, run: RunSetting, results: Results): Promise<void>;
}

const commands: SideTable = {
  work: COMMAND,
  columns: COMMANDS,
  async measure({ rounds, amounts }, { setting, progress }, results) {
    const times = await CommandTimes.start(setting.programs, setting.folder, COMMANDS);
    try {
      for (let round = 0; round < rounds; round += 1) {
        progress(`round ${round + 1} of ${rounds}: ${COMMAND.id}`);
        for (const [id, outcomes] of await times.measure(amounts.commands)) results.add(COMMAND.id, id, outcomes);
      }
    } finally {
      await times.stop();
    }
  },
};

const remoteCommands: SideTable = {
  work: REMOTE_COMMAND,
  columns: REMOTE_COMMANDS,
  /** It takes half a minute a round: not with `--quick`. */
  async measure({ rounds, quick, amounts }, { setting, progress }, results) {
    if (quick) throw new Error(`${NOT_TRIED}: not with --quick`);
    const times = await CommandTimes.start(setting.programs, setting.folder, REMOTE_COMMANDS);
    try {
      for (let round = 0; round < rounds; round += 1) {
        progress(`round ${round + 1} of ${rounds}: ${REMOTE_COMMAND.id}`);
        for (const part of [await times.measure(amounts.commands), await times.measureParallel()])
          for (const [id, outcomes] of part) results.add(REMOTE_COMMAND.id, id, outcomes);
      }
    } finally {
      await times.stop();
    }
  },
};

const processStarts: SideTable = {
  work: PROCESS_STARTS,
  columns: STARTERS,
  async measure({ rounds }, { progress }, results) {
    for (let round = 0; round < rounds; round += 1) {
      progress(`round ${round + 1} of ${rounds}: ${PROCESS_STARTS.id}`);
      for (const { id } of STARTERS) results.add(PROCESS_STARTS.id, id, await measureProcessStarts(id));
    }
  },
};

const storageCalls: SideTable = {
  work: STORAGE_CALL,
  columns: STORAGE_CALLERS,
  async measure({ rounds, amounts }, { setting, progress }, results) {
    const calls = await StorageCalls.start(setting.programs, setting.folder);
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
  },
};

const manyChannels: SideTable = {
  work: CHANNELS,
  columns: CHANNEL_LOADS,
  /** It is slow, but stable: with `--quick`, once is enough. */
  async measure({ rounds, quick, amounts }, { setting, progress }, results) {
    for (let round = 0; round < (quick ? 1 : rounds); round += 1) {
      progress(`round ${round + 1} of ${rounds}: ${CHANNELS.id}`);
      const outcomes = await measureChannels(setting.programs, setting.folder, amounts);
      for (const { id } of CHANNEL_LOADS) results.add(CHANNELS.id, id, outcomes[id]);
    }
  },
};

const handOver: SideTable = {
  work: HAND_OVER,
  columns: FLEETS,
  /** Starting a thousand guests takes a minute: not with `--quick`. */
  async measure({ rounds, quick }, { setting, progress }, results) {
    if (quick) throw new Error(`${NOT_TRIED}: not with --quick`);
    for (let round = 0; round < rounds; round += 1) {
      for (const { id, guests } of FLEETS) {
        progress(`round ${round + 1} of ${rounds}: ${HAND_OVER.id}, ${id}`);
        results.add(HAND_OVER.id, id, await measureHandOver(setting.programs, setting.folder, guests));
      }
    }
  },
};

const waysOut: SideTable = {
  work: EGRESS,
  columns: WAYS_OUT,
  async measure({ rounds, amounts }, { setting, progress }, results) {
    const times = await EgressTimes.start(setting.programs, setting.folder, setting.target, amounts);
    try {
      for (let round = 0; round < rounds; round += 1) {
        progress(`round ${round + 1} of ${rounds}: ${EGRESS.id}`);
        for (const [id, outcomes] of await times.measure(amounts)) results.add(EGRESS.id, id, outcomes);
      }
    } finally {
      await times.stop();
    }
  },
};

const datagrams: SideTable = {
  work: DATAGRAMS,
  columns: DATAGRAM_LOADS,
  async measure({ rounds }, { setting, progress }, results) {
    const load = await DatagramLoad.start(setting);
    try {
      for (let round = 0; round < rounds; round += 1) {
        progress(`round ${round + 1} of ${rounds}: ${DATAGRAMS.id}`);
        for (const { id } of DATAGRAM_LOADS) results.add(DATAGRAMS.id, id, await load.measure(id));
      }
    } finally {
      await load.stop();
    }
  },
};

const datagramTools: SideTable = {
  work: DATAGRAM_TOOLS,
  columns: DATAGRAM_CONTENDERS,
  /** It takes half a minute a round: not with `--quick`. */
  async measure({ rounds, quick, amounts }, { setting, progress }, results) {
    if (quick) throw new Error(`${NOT_TRIED}: not with --quick`);
    for (let round = 0; round < rounds; round += 1) {
      progress(`round ${round + 1} of ${rounds}: ${DATAGRAM_TOOLS.id}`);
      for (const contender of DATAGRAM_CONTENDERS)
        results.add(DATAGRAM_TOOLS.id, contender.id, await measureDatagramTools(contender, setting, amounts));
    }
  },
};

const ansible: SideTable = {
  work: ANSIBLE,
  columns: ANSIBLE_CONNECTIONS,
  /** Ansible itself takes most of the time: with `--quick`, once is enough. */
  async measure({ rounds, quick, amounts }, { setting, progress }, results) {
    const plays = await AnsiblePlays.start(setting.programs, setting.folder);
    try {
      for (let round = 0; round < (quick ? 1 : rounds); round += 1) {
        progress(`round ${round + 1} of ${rounds}: ${ANSIBLE.id}`);
        for (const { id } of ANSIBLE_CONNECTIONS) results.add(ANSIBLE.id, id, await plays.measure(id, amounts));
      }
    } finally {
      await plays.stop();
    }
  },
};

const tools: SideTable = {
  work: TOOLS_WORK,
  columns: TOOL_CONTENDERS,
  /** It takes over a minute a round: not with `--quick`. */
  async measure({ rounds, quick, amounts }, { setting, progress }, results) {
    if (quick) throw new Error(`${NOT_TRIED}: not with --quick`);
    const runs = await ToolRuns.start(setting);
    try {
      for (let round = 0; round < rounds; round += 1) {
        for (const contender of TOOL_CONTENDERS) {
          progress(`round ${round + 1} of ${rounds}: ${TOOLS_WORK.id}, ${contender.id}`);
          results.add(TOOLS_WORK.id, contender.id, await runs.measure(contender, amounts));
        }
      }
    } finally {
      runs.stop();
    }
  },
};

/** All of them, in the order of the report. */
export const SIDE_TABLES: readonly SideTable[] = [
  commands,
  remoteCommands,
  processStarts,
  storageCalls,
  manyChannels,
  handOver,
  waysOut,
  datagrams,
  datagramTools,
  ansible,
  tools,
];

/** Measures one of them; a failure is recorded for every row and column, and never ends the run. */
export async function measureSideTable(
  table: SideTable,
  options: BenchOptions,
  run: RunSetting,
  results: Results,
): Promise<void> {
  const { work, columns } = table;
  try {
    await table.measure(options, run, results);
  } catch (error) {
    const failure = error instanceof Error ? error.message : String(error);
    run.progress(`${work.id}: ${failure}`);
    const outcomes = Object.fromEntries(work.rows(options.amounts).map(({ key }) => [key, failure]));
    for (const { id } of columns) results.add(work.id, id, outcomes);
  }
}
