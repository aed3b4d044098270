/**
 * Starts processes: with posix_spawn(3), through the optional package koffi, else with Node's `spawn`. That is fork(2), which copies
 * the page tables: this process stands still for 2 ms at 50 MB and for 13 ms at 260 MB, and with posix_spawn for 0.2 ms at both.
 */
import { spawn } from 'node:child_process';
import { constants as fileConstants } from 'node:fs';
import { constants, endianness } from 'node:os';
import { env as ownEnv } from 'node:process';
// The global ones may be a test runner's fakes.
import { clearInterval, setInterval } from 'node:timers';
import { isMainThread } from 'node:worker_threads';
import { type Libc, systemError } from '../libc.js';
import { followChild, type ProcessEnd, type ProcessUsage, type StartedProcess, spawned } from './children.js';

/** What to start, and how. It leads a session, and so a process group, of its own. */
export interface ProcessSpec {
  /** An absolute path. */
  readonly file: string;
  /** All arguments, including `argv[0]`. */
  readonly argv: readonly string[];
  /** Default: that of this process. */
  readonly cwd?: string;
  /** The whole environment. Default: that of this process. */
  readonly env?: NodeJS.ProcessEnv | undefined;
  /** User and group. Default: those of this process. */
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  /** Its input, output and error output: descriptors, or as in Node. */
  readonly stdio: readonly (number | 'ignore' | 'pipe')[];
}

/** Starts a process in this turn. Rejects with a system error if it cannot be started. */
export async function startProcess(spec: ProcessSpec): Promise<StartedProcess> {
  const { uid, gid, stdio } = spec;
  const isOwn = uid === undefined && gid === undefined && !stdio.includes('pipe');
  // Node refuses what its permissions do not allow.
  return native !== null && isOwn && mayStart() ? startNatively(native, spec) : startByNode(spec);
}

// ---- by Node --------------------------------------------------------------------------------------------------------

async function startByNode({ file, argv, cwd, env, uid, gid, stdio }: ProcessSpec): Promise<StartedProcess> {
  const ids = { ...(uid !== undefined && { uid }), ...(gid !== undefined && { gid }) };
  const own = { ...(cwd !== undefined && { cwd }), ...(env && { env }), ...ids };
  const options = { argv0: argv[0] ?? file, ...own, stdio: [...stdio], detached: true };
  return followChild(await spawned(spawn(file, argv.slice(1), options)));
}

// ---- by posix_spawn -------------------------------------------------------------------------------------------------

/** Flags of spawn.h, in glibc. */
const [SETSIGDEF, SETSIGMASK, SETSID] = [0x04, 0x08, 0x80] as const;

/** More than each structure of spawn.h takes on any system. */
const STRUCTURE_BYTES = 1024;

/** As much as `sigset_t` takes on all. */
const SIGSET_BYTES = 128;

const WNOHANG = 1;

const { ENOEXEC } = constants.errno;
const { O_RDONLY, O_RDWR } = fileConstants;

type Native = ReturnType<typeof declare>;

let native: Native | null = null;

/** Has processes started by posix_spawn from now on. Call it once. It does nothing with another library than glibc 2.29 or later. */
export function loadPosixSpawn(libc: Libc): void {
  // Node tells no signals to other threads.
  if (!isMainThread || !mayStart()) return;
  try {
    const calls = declare(libc);
    if (!tellsErrors(calls)) return;
    native = calls;
  } catch {
    return;
  }
  // Node waits for its own children only, by their numbers.
  process.on('SIGCHLD', reap);
}

function mayStart(): boolean {
  const { permission } = process as { readonly permission?: { has(scope: string): boolean } };
  return permission?.has('child') !== false;
}

/** False under qemu-user, which copies the memory that the two processes should share: then the child exits with 127. */
function tellsErrors(calls: Native): boolean {
  try {
    const { pid } = startNatively(calls, { file: '/', argv: ['/'], stdio: [] });
    calls.wait(pid, Buffer.alloc(4), 0, null);
    // Nobody waits for it.
    reap();
    return false;
  } catch {
    return true;
  }
}

function declare(libc: Libc) {
  // Throws if it is no glibc.
  libc.declare('const char *gnu_get_libc_version()');
  const setUp = (name: string, parameters = '') => {
    const call = libc.declare(`int posix_spawn${name}(void *it${parameters})`);
    return (it: Buffer, ...args: readonly unknown[]): void => {
      const number = call(it, ...args);
      if (number !== 0) throw systemError('posix_spawn', number);
    };
  };
  const init = setUp('attr_init');
  const setDefault = setUp('attr_setsigdefault', ', const void *set');
  const setMask = setUp('attr_setsigmask', ', const void *set');
  const setFlags = setUp('attr_setflags', ', short flags');
  const how = Buffer.alloc(STRUCTURE_BYTES);
  init(how);
  // Node ignores SIGPIPE, which must not be inherited.
  setDefault(how, Buffer.alloc(SIGSET_BYTES, 0xff));
  setMask(how, Buffer.alloc(SIGSET_BYTES));
  setFlags(how, SETSIGDEF | SETSIGMASK | SETSID);
  return {
    spawn: libc.declare(
      'int posix_spawnp(void *pid, const char *file, const void *actions, const void *how, const char **argv, const char **env)',
    ),
    how,
    begin: setUp('_file_actions_init'),
    end: setUp('_file_actions_destroy'),
    duplicate: setUp('_file_actions_adddup2', ', int from, int to'),
    open: setUp('_file_actions_addopen', ', int fd, const char *path, int flags, unsigned int mode'),
    enter: setUp('_file_actions_addchdir_np', ', const char *path'),
    wait: libc.declare('int wait4(int pid, void *status, int options, void *usage)'),
  };
}

function startNatively(calls: Native, { file, argv, cwd, env = ownEnv, stdio }: ProcessSpec): StartedProcess {
  const variables = Object.entries(env).flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`]));
  if ([file, cwd ?? '', ...argv, ...variables].some((text) => text.includes('\0')))
    throw Object.assign(new Error('a word, a variable or the folder contains a NUL'), {
      code: 'ERR_INVALID_ARG_VALUE',
    });
  const actions = Buffer.alloc(STRUCTURE_BYTES);
  const id = new Int32Array(1);
  const start = (program: string, words: readonly string[]): number =>
    calls.spawn(Buffer.from(id.buffer), program, actions, calls.how, [...words, null], [...variables, null]);
  calls.begin(actions);
  try {
    for (const [fd, source] of stdio.entries()) {
      if (source === 'ignore') calls.open(actions, fd, '/dev/null', fd === 0 ? O_RDONLY : O_RDWR, 0);
      else if (source !== 'pipe') calls.duplicate(actions, source, fd);
    }
    if (cwd !== undefined) calls.enter(actions, cwd);
    let number = start(file, argv);
    // A script without `#!`, as execvp(3) has it.
    if (number === ENOEXEC) number = start('/bin/sh', ['/bin/sh', file, ...argv.slice(1)]);
    if (number !== 0) throw systemError(`spawn ${file}`, number);
  } finally {
    calls.end(actions);
  }
  const [pid = 0] = id;
  return { pid, ended: new Promise((resolve) => watch(pid, resolve)), child: null };
}

/** By process id: what hears of its end. */
const running = new Map<number, (end: ProcessEnd) => void>();

/**
 * Keeps the event loop alive while a process runs, as Node's children do, and polls for ends that SIGCHLD did not report: a program
 * may have removed the listeners of the library, and in Jest `process` is a copy that receives no signals.
 */
let looks: NodeJS.Timeout | null = null;

const LOOK_MS = 1000;

function watch(pid: number, onEnd: (end: ProcessEnd) => void): void {
  running.set(pid, onEnd);
  looks ??= setInterval(reap, LOOK_MS);
}

function reap(): void {
  const status = new Int32Array(1);
  const usage = Buffer.alloc(USAGE_BYTES);
  for (const [pid, onEnd] of running) {
    const found = native?.wait(pid, Buffer.from(status.buffer), WNOHANG, usage);
    if (found === 0) continue;
    running.delete(pid);
    // Without a result, another part of this program has waited for it.
    onEnd({
      ...(found === pid ? readStatus(status[0] ?? 0) : UNKNOWN),
      usage: found === pid ? readUsage(usage) : null,
    });
  }
  if (running.size > 0 || looks === null) return;
  clearInterval(looks);
  looks = null;
}

const UNKNOWN = { status: null, signal: null };

/** `struct rusage` of 64-bit systems: seconds and microseconds of user and of system time, and the peak in KiB; more follows. */
const USAGE_BYTES = 144;
const USAGE_ARCHITECTURES: ReadonlySet<string> = new Set(['x64', 'arm64', 'riscv64', 'loong64', 'ppc64']);

function readUsage(usage: Buffer): ProcessUsage | null {
  if (!USAGE_ARCHITECTURES.has(process.arch) || endianness() !== 'LE') return null;
  const [userS, userUs, systemS, systemUs, peakKib] = Array.from({ length: 5 }, (_, index) =>
    Number(usage.readBigInt64LE(8 * index)),
  ) as [number, number, number, number, number];
  // Linux counts what this process had when the child shared its memory, before it executed its program.
  const isOwn = peakKib > process.resourceUsage().maxRSS;
  return { cpuMs: (userS + systemS) * 1000 + (userUs + systemUs) / 1000, peakBytes: isOwn ? peakKib * 1024 : null };
}

/** Reads the status of wait(2). */
function readStatus(status: number): Pick<ProcessEnd, 'status' | 'signal'> {
  const number = status & 0x7f;
  if (number === 0) return { status: (status >> 8) & 0xff, signal: null };
  const [name] = Object.entries(constants.signals).find(([, each]) => each === number) ?? [`SIG${number}`];
  return { status: null, signal: name };
}
