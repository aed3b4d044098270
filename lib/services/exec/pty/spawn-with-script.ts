/** Runs a command in a terminal made by script(1) of util-linux, where this process cannot make one. */
import type { ChildProcessByStdio } from 'node:child_process';
import { readFileSync, realpathSync } from 'node:fs';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { VproxyError } from '../../../errors.js';
import { ProcessGroup, type StartedProcess, signalGroup, startTurns } from '../../../system/processes/children.js';
import { runTool } from '../../../system/processes/run-tool.js';
import { startProcess } from '../../../system/processes/start-process.js';
import { systemClock } from '../../../util/clock.js';
import { escapeText, quoteWord } from '../../../util/escape.js';
import type { TerminalRequest } from '../exec-messages.js';
import type { CommandOptions, RunningCommand } from '../running-command.js';
import { spawnFailure } from '../spawn-failure.js';
import { callProgram, typedInput } from './calling-shell.js';

const RESIZE_MS = 5000;

/** After this time script(1) has reported the end of its command, or has missed it. */
const MISSED_MS = 1000;

const SCRIPT_FILES = ['/usr/bin/script', '/bin/script'];

/**
 * Starts a command as `spawnInTerminal` does, with these differences: `pid` is that of script; death by a signal is
 * reported as the status 128 plus its number; `stdout` ends when script does. If `scriptFiles` has no such script, rejects
 * with `command-failed`, which names what to install.
 */
export async function spawnWithScript(
  options: CommandOptions,
  terminal: TerminalRequest,
  scriptFiles: readonly string[] = SCRIPT_FILES,
): Promise<RunningCommand> {
  const script = scriptFiles.find(isUtilLinux);
  if (script === undefined) {
    const needed = 'the optional package koffi (npm install koffi) or script(1) of util-linux';
    throw new VproxyError('command-failed', `${escapeText(options.file, 200)}: a terminal needs ${needed}`);
  }
  const started = await start(script, options, terminal);
  const child = started.child as ChildProcessByStdio<Writable, Readable, null>;
  const { pid, ended } = new ProcessGroup(started);
  let isOver = false;
  void ended.then(() => {
    isOver = true;
  });
  for (const emitter of [child.stdin, child.stdout]) emitter.on('error', () => undefined);
  const stdin = typedInput((bytes, done) => {
    if (child.stdin.writable) child.stdin.write(bytes, () => done());
    else done();
  });
  let cancelLook = (): void => undefined;
  /** Ends script if its command is dead and it does not wait for who reads the output. */
  const endLater = (leader: number | null): void => {
    cancelLook();
    cancelLook = systemClock.schedule(MISSED_MS, () => {
      if (isOver) return;
      if (child.stdout.readableLength > 0) endLater(leader);
      else if (statOf(String(leader))[0] === 'Z') signalGroup(pid, 'SIGKILL');
    });
  };
  return {
    pid,
    stdin,
    stdout: child.stdout,
    stderr: null,
    ended,
    resize: ({ columns, rows }) => {
      const device = isOver ? null : terminalOf(pid);
      if (device === null) return;
      const words = ['stty', '-F', device, 'columns', String(columns), 'rows', String(rows)];
      runTool(words, { timeoutMs: RESIZE_MS, hasOwnSession: false }).catch(() => undefined);
    },
    signal: (name) => {
      // Signal the command, not script, which still has to relay its last output. Before the command runs, signal script.
      if (isOver) return;
      const leader = leaderBelow(pid);
      signalGroup(leader ?? pid, name);
      if (name !== 'SIGCONT' && name !== 'SIGKILL') return;
      // It stops when its command does, and misses an end that comes while it is continued.
      signalGroup(pid, 'SIGCONT');
      endLater(leader);
    },
    release: () => {
      // Killing script hangs the terminal up; it ignores other signals.
      if (!isOver) signalGroup(pid, 'SIGKILL');
      for (const stream of [stdin, child.stdin, child.stdout]) stream.destroy();
    },
  };
}

async function start(
  script: string,
  options: CommandOptions,
  { columns, rows }: TerminalRequest,
): Promise<StartedProcess> {
  const { file, argv, cwd, env, uid, gid, owner } = options;
  const { SHELL: shell } = env;
  const preparation = [
    shell === undefined ? 'unset SHELL' : `SHELL=${quoteWord(shell)}`,
    `stty echo iutf8 columns ${columns} rows ${rows} 2>/dev/null`,
    ...(owner === undefined ? [] : [`chown ${owner.uid} "$(tty)" 2>/dev/null`]),
  ].join('\n');
  const call = callProgram(file, argv, { script: preparation });
  const line = ['exec', ...[call.file, ...call.args].map(quoteWord)].join(' ');
  try {
    // script would run the user's shell, which may not be one.
    const own = { cwd, env: { ...env, SHELL: '/bin/sh' }, uid, gid };
    const argv = [script, '-qefc', line, '/dev/null'];
    return await startTurns.queue(() => {
      options.requireWanted?.();
      return startProcess({ file: script, argv, ...own, stdio: ['pipe', 'pipe', 'ignore'] });
    });
  } catch (error) {
    throw spawnFailure(error, options);
  }
}

/** Excludes busybox's script, which does not report how the command ended. */
function isUtilLinux(file: string): boolean {
  try {
    return path.basename(realpathSync(file)) === 'script';
  } catch {
    return false;
  }
}

/** The PID of the command, which leads its own session; null before it has started. */
function leaderBelow(pid: number): number | null {
  const [child] = readProcess(`${pid}/task/${pid}/children`).split(' ');
  const isLeader = child !== undefined && statOf(child)[3] === child;
  return isLeader ? Number(child) : null;
}

/** The terminal of the command: `/dev/pts/7`; null if it has none. */
function terminalOf(pid: number): string | null {
  const leader = leaderBelow(pid);
  const device = leader === null ? 0 : Number(statOf(String(leader))[4] ?? 0);
  return device === 0 ? null : `/dev/pts/${(device & 0xff) | ((device >> 12) & 0xfff00)}`;
}

/** State, parent, group, session, terminal …: the fields after the name, which may contain anything. */
function statOf(pid: string): string[] {
  const text = readProcess(`${pid}/stat`);
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** Empty if the process has exited. */
function readProcess(file: string): string {
  try {
    return readFileSync(`/proc/${file}`, 'utf8');
  } catch {
    return '';
  }
}
