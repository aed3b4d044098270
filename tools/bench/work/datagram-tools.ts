/** Datagrams as known programs send them: a burst like that of syslog, iperf3, and dnsperf, through vproxy and through socat. */
import { execFile } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { PROJECT_ROOT } from '../../../spec/helpers/files.js';
import { eventually } from '../../../spec/helpers/time.js';
import type { Contender, ContenderSetting } from '../contenders/contender.js';
import { socat } from '../contenders/socat.js';
import { socket } from '../contenders/socket.js';
import { VPROXY_SCRIPT, vproxy } from '../contenders/vproxy.js';
import { runProgram } from '../load/program.js';
import { findProgram } from '../process/find-program.js';
import { findFreePort } from '../process/free-port.js';
import { seconds, TOOL_TIMEOUT_MS } from './tools.js';
import { type Amounts, NOT_TRIED, type Outcomes, stopSides, type Work } from './work.js';

const START_MS = 20_000;
const DNS_SERVER = join(PROJECT_ROOT, 'dist/tools/bench/load/dns-server.js');

const BURST = 3000;
const BURST_PER_SECOND = 3300;

/** Both take TCP too, on the same port, which iperf3 needs. */
export const DATAGRAM_CONTENDERS: readonly Contender[] = [
  {
    ...vproxy,
    async start({ programs, folder, target }) {
      const address = await findFreePort();
      const channel = join(folder, 'channel.sock');
      const run = (...args: string[]) => programs.startScript(VPROXY_SCRIPT, [...args, '--no-control', '--quiet']);
      const both = (option: string, port: number) =>
        ['', 'udp:'].flatMap((kind) => [option, `load:${kind}127.0.0.1:${port}`]);
      return {
        address,
        near: [run('-c', `unix-listen:${channel}`, ...both('-o', address))],
        far: [run('-c', `unix-connect:${channel}`, ...both('-i', target))],
      };
    },
  },
  socket,
  {
    ...socat,
    async start(setting) {
      const { programs, folder, target } = setting;
      const { address, near, far } = await socat.start(setting);
      const path = join(folder, 'datagrams.sock');
      // A type of unix socket that keeps the boundaries of messages.
      const [listening, connecting] = ['LISTEN', 'CONNECT'].map((mode) => `UNIX-${mode}:${path},socktype=5`);
      const start = (...args: string[]) => programs.start('socat', args);
      return {
        address,
        near: [...near, start(`UDP4-LISTEN:${address},bind=127.0.0.1,fork,reuseaddr`, `${connecting}`)],
        far: [...far, start(`${listening},fork,backlog=1024`, `UDP4:127.0.0.1:${target}`)],
      };
    },
  },
];

/** A load of one of the contenders on a port, whose receiver listens on the setting's target. */
interface Load {
  readonly key: string;
  readonly title: string;
  readonly unit: string;
  /** The program, which has a package of its name. */
  readonly needs?: string;
  readonly measure: (setting: ContenderSetting, port: number, ms: number) => Promise<number>;
}

const LOADS: readonly Load[] = [
  {
    key: 'dnsperf',
    title: 'dnsperf, 100 questions at a time',
    unit: '/s',
    needs: 'dnsperf',
    measure: async ({ programs, folder, target }, port, ms) => {
      const file = join(folder, 'questions');
      writeFileSync(file, 'example.org A\n');
      const ask = (...args: string[]): Promise<number> =>
        printed('dnsperf', ['-s', '127.0.0.1', '-p', `${port}`, '-d', file, ...args], /per second: +([\d.]+)/);
      const server = programs.startScript(DNS_SERVER, [`${target}`]);
      try {
        await eventually(async () => (await ask('-n', '1', '-t', '1')) > 0, { timeoutMs: START_MS, what: 'an answer' });
        await ask('-l', `${seconds(2 * ms)}`);
        return await ask('-l', `${seconds(ms)}`);
      } finally {
        await server.stop();
      }
    },
  },
  {
    key: 'burst',
    title: `${BURST} datagrams, ${BURST_PER_SECOND}/s, as a burst of syslog: lost`,
    unit: '%',
    measure: async ({ target }, port) => {
      const args = [target, port, BURST, BURST_PER_SECOND].map(String);
      const { questions = 0 } = await runProgram('tools/bench/load/questions.js', args);
      return 100 * (1 - questions / BURST);
    },
  },
  {
    key: 'iperf3',
    title: 'iperf3 -u -b 100M: lost',
    unit: '%',
    needs: 'iperf3',
    measure: async ({ programs, target }, port, ms) => {
      // Datagrams as of Ethernet: by default, they would be as large as the loopback allows.
      const args = ['-c', '127.0.0.1', '-p', `${port}`, '-u', '-b', '100M', '-l', '1400', '-t', `${seconds(ms)}`];
      const server = programs.start('iperf3', ['-s', '-B', '127.0.0.1', '-p', `${target}`]);
      try {
        // Before it listens, the client fails.
        const attempt = async () => {
          const lost = await printed('iperf3', args, /\(([\d.e+-]+)%\) +receiver/);
          return Number.isNaN(lost) ? null : { lost };
        };
        return (await eventually(attempt, { timeoutMs: START_MS, what: 'iperf3' })).lost;
      } finally {
        await server.stop();
      }
    },
  },
];

/** The work's name and its rows. */
export const DATAGRAM_TOOLS: Pick<Work, 'id' | 'rows'> = { id: 'datagram-tools', rows: () => LOADS };

/** One round of one contender: fresh processes, and each load in turn. */
export async function measureDatagramTools(
  contender: Contender,
  given: ContenderSetting,
  { toolMs }: Pick<Amounts, 'toolMs'>,
): Promise<Outcomes> {
  const outcomes: Record<string, number | string> = {};
  const isMissing = contender.missing();
  if (isMissing !== undefined) return Object.fromEntries(LOADS.map(({ key }) => [key, `${NOT_TRIED}: ${isMissing}`]));
  const folder = mkdtempSync(join(given.folder, `${contender.id}-`));
  const setting = { ...given, folder, target: await findFreePort() };
  const running = await contender.start(setting);
  try {
    for (const { key, needs, measure } of LOADS) {
      if (needs !== undefined && findProgram(needs) === undefined)
        outcomes[key] = `${NOT_TRIED}: apt-get install ${needs}`;
      else outcomes[key] = await measure(setting, running.address, toolMs);
    }
    return outcomes;
  } finally {
    await stopSides(running);
  }
}

const execute = promisify(execFile);

/** The number that a program prints; NaN if it fails. */
async function printed(program: string, args: readonly string[], pattern: RegExp): Promise<number> {
  const { stdout } = await execute(program, [...args], { timeout: TOOL_TIMEOUT_MS }).catch(() => ({ stdout: '' }));
  return Number(pattern.exec(stdout)?.[1] ?? Number.NaN);
}
