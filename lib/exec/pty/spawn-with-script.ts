/** Runs a command in a terminal that script(1) of util-linux makes: where this process itself can make none. */

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { readFileSync, realpathSync } from 'node:fs';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { VproxyError } from '../../errors.js';
import { ProcessGroup, signalGroup, spawned } from '../../system/processes/children.js';
import { runTool } from '../../system/processes/run-tool.js';
import { escapeText, quoteWord } from '../../util/escape.js';
import type { TerminalRequest } from '../exec-messages.js';
import type { CommandOptions, RunningCommand } from '../running-command.js';
import { spawnFailure } from '../spawn-failure.js';
import { callProgram, typedInput } from './calling-shell.js';

const RESIZE_MS = 5000;

const SCRIPT_FILES = ['/usr/bin/script', '/bin/script'];

/**
 * Starts a command as `spawnInTerminal` does, with these differences: `pid` is that of script; the end of the command by
 * a signal is the status 128 and its number; `stdout` ends when script does. Rejects with `command-failed`, which says
 * what to install, where there is no such script in `scriptFiles`.
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
  const child = await start(script, options, terminal);
  const { pid, ended } = new ProcessGroup(child);
  let isOver = false;
  void ended.then(() => {
    isOver = true;
  });
  for (const emitter of [child.stdin, child.stdout]) emitter.on('error', () => undefined);
  const stdin = typedInput((bytes, done) => {
    if (child.stdin.writable) child.stdin.write(bytes, () => done());
    else done();
  });
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
      // Script survives what ends the command: it has its last words. Before there is one, it is all there is.
      if (!isOver) signalGroup(leaderBelow(pid) ?? pid, name);
    },
    release: () => {
      // Its end hangs the terminal up, and it listens to no other signal.
      if (!isOver) signalGroup(pid, 'SIGKILL');
      for (const stream of [stdin, child.stdin, child.stdout]) stream.destroy();
    },
  };
}

type ScriptProcess = ChildProcessByStdio<Writable, Readable, null>;

async function start(
  script: string,
  options: CommandOptions,
  { columns, rows }: TerminalRequest,
): Promise<ScriptProcess> {
  const { file, argv, cwd, env, uid, gid, owner } = options;
  const { SHELL: shell } = env;
  const preparation = [
    shell === undefined ? 'unset SHELL' : `SHELL=${quoteWord(shell)}`,
    `stty echo iutf8 columns ${columns} rows ${rows} 2>/dev/null`,
    ...(owner === undefined ? [] : [`chown ${owner.uid} "$(tty)" 2>/dev/null`]),
  ].join('\n');
  const call = callProgram(file, argv, { script: preparation });
  const line = ['exec', ...[call.file, ...call.args].map(quoteWord)].join(' ');
  const ids = { ...(uid !== undefined && { uid }), ...(gid !== undefined && { gid }) };
  try {
    const child = spawn(script, ['-qefc', line, '/dev/null'], {
      cwd,
      // It calls the user's shell otherwise, which may be none.
      env: { ...env, SHELL: '/bin/sh' },
      ...ids,
      stdio: ['pipe', 'pipe', 'ignore'],
      detached: true,
    });
    return await spawned(child);
  } catch (error) {
    throw spawnFailure(error, options);
  }
}

/** That of busybox does not tell how the command ended. */
function isUtilLinux(file: string): boolean {
  try {
    return path.basename(realpathSync(file)) === 'script';
  } catch {
    return false;
  }
}

/** The command, which leads a session of its own; null before there is one. */
function leaderBelow(pid: number): number | null {
  const [child] = readProcess(`${pid}/task/${pid}/children`).split(' ');
  const isLeader = child !== undefined && statOf(child)[3] === child;
  return isLeader ? Number(child) : null;
}

/** The terminal of the command: `/dev/pts/7`; null where it has none. */
function terminalOf(pid: number): string | null {
  const leader = leaderBelow(pid);
  const device = leader === null ? 0 : Number(statOf(String(leader))[4] ?? 0);
  return device === 0 ? null : `/dev/pts/${(device & 0xff) | ((device >> 12) & 0xfff00)}`;
}

/** State, parent, group, session, terminal …: what comes behind the name, which may hold anything. */
function statOf(pid: string): string[] {
  const text = readProcess(`${pid}/stat`);
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** Empty where the process has gone. */
function readProcess(file: string): string {
  try {
    return readFileSync(`/proc/${file}`, 'utf8');
  } catch {
    return '';
  }
}
