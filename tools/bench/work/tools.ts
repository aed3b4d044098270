/** Programs that people know, through vproxy, two plain relays and `ssh -L`: redis-benchmark, pgbench, and wrk with nginx. */
import { execFile, execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { eventually } from '../../../spec/helpers/time.js';
import type { Contender, ContenderSetting, RunningContender } from '../contenders/contender.js';
import { relays } from '../contenders/relays.js';
import { ssh } from '../contenders/ssh.js';
import { vproxy } from '../contenders/vproxy.js';
import { findProgram } from '../process/find-program.js';
import { findFreePort } from '../process/free-port.js';
import type { Programs, RunningProgram } from '../process/programs.js';
import { cpuSecondsOf } from '../process/tree.js';
import { type Amounts, NOT_TRIED, type Outcomes, pidsOf, type Row, stopSides, type Work } from './work.js';

/** The columns. */
export const TOOL_CONTENDERS: readonly Contender[] = [vproxy, relays, ssh];

/** A server, and a tool that loads it. */
interface Tool {
  readonly id: string;
  readonly title: string;
  /** The server's program, and the tool's. */
  readonly needs: readonly [string, string];
  readonly install: string;
  /** Starts the server on a port of 127.0.0.1, with files in `folder`. */
  start(programs: Programs, folder: string, port: number): RunningProgram;
  /** The tool's arguments, for about `ms` of load. */
  args(port: number, ms: number): readonly string[];
  /** The number of operations in what the tool prints. */
  readonly count: RegExp;
}

/** What a tool is given: whole seconds. */
export const seconds = (ms: number): number => Math.max(1, Math.round(ms / 1000));

/** redis-benchmark is given a number of requests, not a time: some, for each millisecond. */
const REDIS_REQUESTS_PER_MS = 15;

const wrk = (id: string, title: string, more: readonly string[]): Tool => ({
  id,
  title,
  needs: ['nginx', 'wrk'],
  install: 'nginx-light wrk',
  start(programs, folder, port) {
    const config = join(folder, 'nginx.conf');
    const server = `server { listen 127.0.0.1:${port} backlog=4096; location / { return 200 'hello'; } }`;
    writeFileSync(
      config,
      `daemon off; worker_processes 1; pid ${folder}/nginx.pid; error_log stderr; events { worker_connections 4096; }
       http { access_log off; keepalive_requests 1000000000; ${server} }`,
    );
    return programs.start(findProgram('nginx') ?? 'nginx', ['-c', config, '-p', folder]);
  },
  args: (port, ms) => ['-t2', '-c50', `-d${seconds(ms)}s`, ...more, `http://127.0.0.1:${port}/`],
  count: /(\d+) requests in/,
});

const TOOLS: readonly Tool[] = [
  {
    id: 'redis',
    title: 'redis-benchmark, GET, 50 connections',
    needs: ['redis-server', 'redis-benchmark'],
    install: 'redis-server redis-tools',
    start: (programs, folder, port) =>
      programs.start('redis-server', ['--port', `${port}`, '--bind', '127.0.0.1', '--save', '', '--dir', folder]),
    args: (port, ms) => ['-p', `${port}`, '-c', '50', '-n', `${REDIS_REQUESTS_PER_MS * ms}`, '-t', 'get'],
    count: /(\d+) requests completed in/,
  },
  {
    id: 'pgbench',
    title: 'pgbench -S, 8 connections',
    needs: ['postgres', 'pgbench'],
    install: 'postgresql',
    start: startPostgres,
    args: (port, ms) => [
      ...PSQL_OPTIONS,
      `${port}`,
      '-n',
      '-S',
      '-c',
      '8',
      '-j',
      '2',
      '-T',
      `${seconds(ms)}`,
      'postgres',
    ],
    count: /transactions actually processed: (\d+)/,
  },
  wrk('wrk', 'wrk, 50 connections', []),
  wrk('wrk-close', 'wrk, a connection for each request', ['-H', 'Connection: close']),
];

/** The work's name and its rows. */
export const TOOLS_WORK: Pick<Work, 'id' | 'rows'> = {
  id: 'tools',
  rows: () =>
    TOOLS.flatMap(({ id, title }): Row[] => [
      { key: `${id}-cold`, title: `${title}: the first of fresh processes`, unit: '/s' },
      { key: id, title: '  warm', unit: '/s' },
      { key: `${id}-cpu`, title: '  CPU of both sides', unit: 'µs each' },
    ]),
};

/** The servers, and for each of them every contender. */
export class ToolRuns {
  readonly #setting: ContenderSetting;
  readonly #folder: string;
  readonly #ports = new Map<string, number>();
  readonly #missing = new Map<string, string>();

  private constructor(setting: ContenderSetting) {
    this.#setting = setting;
    // Not in the run's: the server of a database belongs to another user.
    this.#folder = mkdtempSync(join(tmpdir(), 'vproxy-tools-'));
    chmodSync(this.#folder, 0o755);
  }

  /** Starts all servers whose programs are installed; resolves when their tools can use them. */
  static async start(setting: ContenderSetting): Promise<ToolRuns> {
    const runs = new ToolRuns(setting);
    for (const tool of TOOLS) {
      const isThere = tool.needs.every((name) => find(name) !== undefined);
      if (!isThere) runs.#missing.set(tool.id, `${NOT_TRIED}: apt-get install ${tool.install}`);
      else await runs.#startServer(tool);
    }
    return runs;
  }

  async #startServer(tool: Tool): Promise<void> {
    const port = await findFreePort();
    const folder = mkdtempSync(join(this.#folder, `${tool.id}-`));
    const server = tool.start(this.#setting.programs, folder, port);
    const works = async (): Promise<boolean> => {
      if (server.hasEnded) throw new Error(`${tool.needs[0]}: ${server.lastLine()}`);
      return (await run(tool, port, 1)) > 0;
    };
    await eventually(works, { timeoutMs: START_MS, intervalMs: 50, what: tool.needs[0] });
    this.#ports.set(tool.id, port);
  }

  /** One round of one contender: with each tool fresh processes, cold, then warmed, then measured. */
  async measure(contender: Contender, { toolMs }: Pick<Amounts, 'toolMs'>): Promise<Outcomes> {
    const outcomes: Record<string, number | string> = {};
    for (const tool of TOOLS) {
      const port = this.#ports.get(tool.id);
      const missing = this.#missing.get(tool.id) ?? contender.missing();
      const keys = [tool.id, `${tool.id}-cold`, `${tool.id}-cpu`];
      if (port === undefined || missing !== undefined) {
        for (const key of keys) outcomes[key] = missing ?? `${tool.needs[0]} does not run`;
        continue;
      }
      Object.assign(outcomes, await this.#measure(contender, tool, port, toolMs));
    }
    return outcomes;
  }

  async #measure(contender: Contender, tool: Tool, target: number, ms: number): Promise<Outcomes> {
    const folder = mkdtempSync(join(this.#setting.folder, `${contender.id}-`));
    const running = await contender.start({ ...this.#setting, folder, target });
    try {
      // With one connection: the processes stay cold.
      await eventually(() => carries(running), { timeoutMs: START_MS, intervalMs: 20, what: contender.id });
      const cold = await timed(tool, running, ms / 2);
      await timed(tool, running, 3 * ms);
      const warm = await timed(tool, running, ms);
      return { [`${tool.id}-cold`]: cold.rate, [tool.id]: warm.rate, [`${tool.id}-cpu`]: warm.cpuMicroseconds };
    } finally {
      await stopSides(running);
    }
  }

  stop(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

const START_MS = 20_000;
/** A tool that is stuck fails then. */
export const TOOL_TIMEOUT_MS = 120_000;
const execute = promisify(execFile);

/** Runs a tool; resolves with the number of its operations, or 0 if it failed. */
async function run(tool: Tool, port: number, ms: number): Promise<number> {
  const [, program] = tool.needs;
  try {
    const { stdout } = await execute(find(program) ?? program, [...tool.args(port, ms)], { timeout: TOOL_TIMEOUT_MS });
    return Number(tool.count.exec(stdout)?.[1] ?? 0);
  } catch {
    return 0;
  }
}

async function timed(tool: Tool, { address, near, far }: RunningContender, ms: number) {
  const pids = pidsOf([...near, ...far]);
  const [cpuBefore, startedAt] = [cpuSecondsOf(pids), performance.now()];
  const count = await run(tool, address, ms);
  if (count === 0) throw new Error(`${tool.needs[1]} failed`);
  const rate = (1000 * count) / (performance.now() - startedAt);
  return { rate, cpuMicroseconds: (1e6 * (cpuSecondsOf(pids) - cpuBefore)) / count };
}

/** Whether a connection through the contender stays open for a moment: it leads to the server then. */
function carries({ address }: RunningContender): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(address, '127.0.0.1');
    const settle = (isOpen: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(isOpen);
    };
    const timer = setTimeout(() => settle(true), 300);
    socket
      .once('error', () => settle(false))
      .once('close', () => settle(false))
      .resume();
  });
}

/** The folders of PostgreSQL's own programs, as Debian has them. */
const POSTGRES_FOLDERS = '/usr/lib/postgresql';

function find(name: string): string | undefined {
  const versions = readFolder(POSTGRES_FOLDERS).map((version) => join(POSTGRES_FOLDERS, version, 'bin'));
  return findProgram(name, [process.env['PATH'] ?? '', ...versions].join(':'));
}

function readFolder(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

const PSQL_OPTIONS = ['-h', '127.0.0.1', '-U', 'postgres', '-p'];

/** A new cluster with pgbench's tables; the server refuses to run as root. */
function startPostgres(programs: Programs, folder: string, port: number): RunningProgram {
  const isRoot = process.getuid?.() === 0;
  const as = isRoot ? ['runuser', '-u', 'postgres', '--'] : [];
  if (isRoot) execFileSync('chown', ['postgres', folder]);
  const init = [find('initdb') ?? '', '-D', join(folder, 'data'), '-A', 'trust', '-U', 'postgres'];
  execFileSync('env', [...as, ...init], { stdio: 'ignore', cwd: folder });
  const settings = ['-p', `${port}`, '-h', '127.0.0.1', '-k', folder, '-c', 'fsync=off'];
  const server = [...as, find('postgres') ?? '', '-D', join(folder, 'data'), ...settings];
  const fill = [find('pgbench') ?? '', ...PSQL_OPTIONS, `${port}`, '-i', '-q', 'postgres'].join(' ');
  // The tables are made beside the server, whose process this is.
  const script = `(until ${fill}; do sleep 0.2; done) 2>/dev/null & exec ${server.join(' ')}`;
  return programs.start('sh', ['-c', script]);
}
