/** Runs a command in a pseudo-terminal of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { VproxyError } from '../../errors.js';
import { shortageAt } from '../../system/descriptors.js';
import { ProcessGroup, spawned } from '../../system/processes/children.js';
import { describeError, escapeText } from '../../util/escape.js';
import type { TerminalRequest, TerminalSize } from '../exec-messages.js';
import type { CommandOptions, RunningCommand } from '../running-command.js';
import { spawnFailure } from '../spawn-failure.js';
import { callProgram } from './calling-shell.js';
import {
  type LoadTerminalCalls,
  loadTerminalCalls,
  openPseudoTerminal,
  type PseudoTerminal,
  type TerminalCalls,
} from './pseudo-terminal.js';
import { spawnWithScript } from './spawn-with-script.js';
import { openTerminalStreams, type TerminalStreams } from './terminal-streams.js';

/**
 * Starts a command that leads a session and its foreground group in a terminal of the given size, which belongs to its
 * user. `TERM` is the terminal's unless `env` has another. Rejects with `command-not-found` or `command-failed`.
 *
 * What is written to `stdin` is typed: Ctrl-C is the byte 0x03. Its end is Ctrl-D. While the terminal gathers lines, as it
 * does at first, it keeps 4095 bytes of a line and drops what comes before its end; else writing waits for the reader.
 *
 * As with ssh, `stdout` ends when the command has, after everything that was written until then; processes that it left
 * behind are hung up. So does `release`.
 *
 * Without koffi it is script(1) of util-linux that makes the terminal.
 */
export async function spawnInTerminal(
  options: CommandOptions,
  terminal: TerminalRequest,
  loadCalls: LoadTerminalCalls = loadTerminalCalls,
): Promise<RunningCommand> {
  const withTerm = { ...options, env: { TERM: terminal.term, ...options.env } };
  const calls = await loadCalls().catch(() => null);
  const opened = calls === null ? null : open(calls, options, terminal);
  if (calls === null || opened === null) return spawnWithScript(withTerm, terminal);
  return run(withTerm, calls, opened);
}

interface Opened extends PseudoTerminal {
  readonly streams: TerminalStreams;
}

/** Null where this version of Node cannot read a terminal. */
function open(calls: TerminalCalls, { file, owner, uid }: CommandOptions, size: TerminalSize): Opened | null {
  let pty: PseudoTerminal;
  try {
    pty = openPseudoTerminal(calls, size, owner?.uid ?? uid);
  } catch (cause) {
    const why = `no terminal could be opened: ${describeError(cause)}`;
    throw new VproxyError('command-failed', `${escapeText(file, 200)}: ${why}`, { cause });
  }
  const shortage = shortageAt(pty.masterFd);
  const streams = shortage === null ? openTerminalStreams(pty) : null;
  if (streams !== null) return { ...pty, streams };
  closeSync(pty.masterFd);
  closeSync(pty.slaveFd);
  if (shortage !== null) throw new VproxyError('command-failed', `${escapeText(file, 200)}: ${shortage}`);
  return null;
}

async function run(options: CommandOptions, calls: TerminalCalls, opened: Opened): Promise<RunningCommand> {
  const { masterFd, streams } = opened;
  const child = await start(options, opened).catch((error: unknown) => {
    streams.close();
    throw error;
  });
  const group = new ProcessGroup(child);
  void group.ended.then(() => streams.finish());
  return {
    pid: group.pid,
    stdin: streams.input,
    stdout: streams.output,
    stderr: null,
    ended: group.ended,
    resize: (size) => {
      if (streams.isOpen) calls.resize(masterFd, size);
    },
    signal: (name) => group.signal(name),
    release: () => {
      streams.input.destroy();
      streams.output.destroy();
    },
  };
}

async function start(options: CommandOptions, { slaveFd, path }: PseudoTerminal): Promise<ChildProcess> {
  const { cwd, env, uid, gid } = options;
  const { file, args } = callProgram(options.file, options.argv, { path });
  const ids = { ...(uid !== undefined && { uid }), ...(gid !== undefined && { gid }) };
  try {
    // Detached: the leader of a session, which has no terminal yet.
    const child = spawn(file, args, { cwd, env, ...ids, stdio: [slaveFd, slaveFd, 'ignore'], detached: true });
    return await spawned(child);
  } catch (error) {
    throw spawnFailure(error, options);
  }
}
