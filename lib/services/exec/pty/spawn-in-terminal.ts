/** Runs a command in a pseudo-terminal of its own. */
import { closeSync } from 'node:fs';
import { VproxyError } from '../../../errors.js';
import { shortageAt } from '../../../system/descriptors.js';
import { ProcessGroup, type StartedProcess, startTurns } from '../../../system/processes/children.js';
import { startProcess } from '../../../system/processes/start-process.js';
import { describeError, escapeText } from '../../../util/escape.js';
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
 * Starts a command as session leader and foreground group of a terminal of the given size, owned by its user. `TERM` is
 * the terminal's unless `env` sets it. Rejects with `command-not-found` or `command-failed`.
 *
 * Bytes written to `stdin` are typed: Ctrl-C is 0x03, and EOF becomes Ctrl-D. In line mode, the initial one, the terminal
 * keeps 4095 bytes of a line and drops the rest of it; otherwise writes wait for the reader.
 *
 * As with ssh, `stdout` ends when the command has exited, after everything written until then, and processes that it
 * left behind are hung up. `release` hangs up, too.
 *
 * Without koffi, script(1) of util-linux makes the terminal.
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

/** Opens a terminal; null if this version of Node cannot read one. */
function open(calls: TerminalCalls, { file, owner, uid }: CommandOptions, size: TerminalSize): Opened | null {
  let pty: PseudoTerminal;
  try {
    pty = openPseudoTerminal(calls, size, owner?.uid ?? uid);
  } catch (cause) {
    const { path } = cause as NodeJS.ErrnoException;
    const why = `cannot open a terminal: ${path === undefined ? '' : `${path}: `}${describeError(cause)}`;
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
  const started = await start(options, opened).catch((error: unknown) => {
    streams.close();
    throw error;
  });
  const group = new ProcessGroup(started);
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

async function start(options: CommandOptions, { slaveFd, path }: PseudoTerminal): Promise<StartedProcess> {
  const { cwd, env, uid, gid } = options;
  const { file, args } = callProgram(options.file, options.argv, { path });
  try {
    // It leads a new session, which has no terminal yet.
    const stdio = [slaveFd, slaveFd, 'ignore'] as const;
    return await startTurns.queue(() => {
      options.requireWanted?.();
      return startProcess({ file, argv: [file, ...args], cwd, env, uid, gid, stdio });
    });
  } catch (error) {
    throw spawnFailure(error, options);
  }
}
