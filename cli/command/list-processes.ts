/** Lists the vproxy processes on this machine: those with a control socket are asked; /proc describes the others. */
import { statSync } from 'node:fs';
import { basename } from 'node:path';
import { askStatus } from '../../lib/control/client/plain-http.js';
import { type ControlPlace, isControlName } from '../../lib/control/socket-paths.js';
import { systemAccounts } from '../../lib/system/accounts.js';
import { readText } from '../../lib/system/files/optional-files.js';
import { listPids, programOf, readOf, statOf } from '../../lib/system/proc/proc.js';
import { splitAtCommas } from '../../lib/util/addresses/comma-options.js';
import { controlFolders, listControlSockets } from '../control-folders.js';
import { PROCESS_NAME } from '../run/process-name.js';

/** A process that runs a proxy. */
export interface ListedProcess {
  /** Its name, which `--name` takes if its control socket is in the usual folder; null if it is not known. */
  readonly name: string | null;
  readonly pid: number;
  /** The user that it runs as; null if it cannot be seen. */
  readonly user: string | null;
  /** The path of its control socket; null if no known one answers. */
  readonly socket: string | null;
  /** The number of its channels, and of those with a session; null if it may not be asked. */
  readonly channels: number | null;
  readonly sessions: number | null;
  /** Its resident memory, in bytes. */
  readonly memoryBytes: number | null;
  /** Its start time, in ISO 8601. */
  readonly since: string | null;
}

interface ProcessPlace extends ControlPlace {
  /** A control socket besides those in the usual folders, such as `$VPROXY_SOCKET`; null: none. */
  readonly socket: string | null;
  /** Default `/proc`. */
  readonly proc?: string;
  /** After this time, in milliseconds, a process without an answer is listed from /proc. Default: that of `askStatus`. */
  readonly answerMs?: number;
}

/** Lists all of them, sorted by name and PID. Never rejects. */
export async function listProcesses({
  socket,
  proc = '/proc',
  answerMs,
  ...place
}: ProcessPlace): Promise<ListedProcess[]> {
  const seen = await seenProcesses(proc);
  const named = seen.flatMap(({ control }) => (control === null ? [] : [control]));
  const sockets = [
    ...controlFolders(place).flatMap(listControlSockets),
    ...named,
    ...(socket === null ? [] : [socket]),
  ];
  // Another user's process may answer anything.
  const answers = await Promise.all([...new Set(sockets)].map((path) => ask(path, proc, answerMs).catch(() => null)));
  const asked = new Map(answers.flatMap((one) => (one === null ? [] : [[one.pid, one]])));
  const others = seen.flatMap(({ listed }) => (asked.has(listed.pid) ? [] : [listed]));
  return [...asked.values(), ...others].sort(byName);
}

const byName = (a: ListedProcess, b: ListedProcess): number =>
  Number(a.name === null) - Number(b.name === null) ||
  (a.name ?? '').localeCompare(b.name ?? '', 'en', { numeric: true }) ||
  a.pid - b.pid;

/** Asks the process on a socket; null if none answers. */
async function ask(path: string, proc: string, answerMs: number | undefined): Promise<ListedProcess | null> {
  const status = await askStatus(path, answerMs);
  if (status === null) return null;
  const { pid, name, startedAt, memory } = status.process;
  if (typeof (name ?? '') !== 'string' || typeof startedAt !== 'string' || typeof memory.residentBytes !== 'number')
    return null;
  return {
    name: name ?? basename(path, '.sock'),
    pid,
    user: await ownerOf(`${proc}/${pid}`),
    socket: path,
    channels: status.channels.length,
    sessions: status.channels.filter(({ session }) => session !== null).length,
    memoryBytes: memory.residentBytes,
    since: startedAt,
  };
}

/** A process found in /proc. */
interface SeenProcess {
  readonly listed: ListedProcess;
  /** The path of its control socket if its command line has it; else null. */
  readonly control: string | null;
}

/** The processes with vproxy's title (see `nameProcess`), of every user, as far as this one may see. */
async function seenProcesses(proc: string): Promise<SeenProcess[]> {
  const bootMs = Number(/^btime (\d+)$/m.exec(readText(`${proc}/stat`))?.[1]) * 1000;
  const found = listPids(proc).flatMap((pid) => {
    if (programOf(proc, pid) !== PROCESS_NAME) return [];
    // The words of a command, such as vproxy top, are separated by NUL.
    const [line = '', ...rest] = readOf(proc, pid, 'cmdline').split('\0');
    const isProxy = line.startsWith(PROCESS_NAME) && rest.every((word) => word === '');
    return isProxy ? [describe(proc, pid, line, bootMs)] : [];
  });
  return Promise.all(found);
}

async function describe(proc: string, pid: number, line: string, bootMs: number): Promise<SeenProcess> {
  const [control = null] = splitAtCommas(/ --control[ =](\/\S+)/.exec(line)?.[1] ?? '').filter((path) => path !== '');
  const name = / --name[ =](\S+)/.exec(line)?.[1] ?? (control === null ? null : basename(control, '.sock'));
  const residentKiB = /^VmRSS:\s+(\d+) kB$/m.exec(readOf(proc, pid, 'status'))?.[1];
  // Field 22 of its stat: in ticks since boot.
  const startMs = bootMs + (Number(statOf(proc, pid)[19]) / TICKS) * 1000;
  const listed = {
    name: name !== null && isControlName(name) ? name : null,
    pid,
    user: await ownerOf(`${proc}/${pid}`),
    socket: null,
    channels: null,
    sessions: null,
    memoryBytes: residentKiB === undefined ? null : Number(residentKiB) * 1024,
    since: Number.isNaN(startMs) ? null : new Date(startMs).toISOString(),
  };
  return { listed, control };
}

/** Clock ticks per second (`USER_HZ`), the same on every Linux that Node runs on. */
const TICKS = 100;

async function ownerOf(folder: string): Promise<string | null> {
  const found = statSync(folder, { throwIfNoEntry: false });
  if (found === undefined) return null;
  const account = await systemAccounts.findUserById(found.uid).catch(() => null);
  return account?.name ?? String(found.uid);
}
