/** Commands in terminals of their own, with what they have shown so far. */
import type { ExecutionContext } from 'ava';
import { type LoadTerminalCalls } from '../../lib/exec/pty/pseudo-terminal.js';
import { spawnInTerminal } from '../../lib/exec/pty/spawn-in-terminal.js';
import type { CommandOptions, RunningCommand } from '../../lib/exec/running-command.js';
import type { ProcessEnd } from '../../lib/system/children.js';
import { eventually } from './eventually.js';

/** A command and what is known of it. */
export interface TerminalCommand {
  readonly command: RunningCommand;
  /** Everything that it has shown, so far. */
  readonly text: () => string;
  /** The first match in what it shows. */
  readonly shows: (pattern: RegExp) => Promise<RegExpExecArray>;
  readonly type: (keys: string) => void;
  /** Everything that it has shown, and how it ended. */
  readonly ended: Promise<{ readonly text: string; readonly end: ProcessEnd }>;
}

export interface TerminalCommandOptions extends Partial<CommandOptions> {
  /** Default: koffi. */
  readonly loadCalls?: LoadTerminalCalls | undefined;
}

/** Starts a command in a terminal of 101x33; it is killed when the test ends. */
export async function startInTerminal(
  t: ExecutionContext,
  argv: readonly string[],
  { loadCalls, ...options }: TerminalCommandOptions = {},
): Promise<TerminalCommand> {
  const env = { PATH: process.env['PATH'] ?? '', LC_ALL: 'C' };
  const command = await spawnInTerminal(
    { file: '/bin/sh', argv, cwd: '/', env, ...options },
    { columns: 101, rows: 33, term: 'xterm' },
    loadCalls,
  );
  t.teardown(async () => {
    command.signal('SIGKILL');
    await command.ended;
    command.release();
  });
  let text = '';
  command.stdout.setEncoding('latin1').on('data', (chunk: string) => {
    text += chunk;
  });
  const read = new Promise<void>((resolve) => void command.stdout.once('end', resolve));
  return {
    command,
    text: () => text,
    shows: (pattern) => eventually(() => pattern.exec(text), { what: String(pattern) }),
    type: (keys) => void command.stdin?.write(keys),
    ended: Promise.all([command.ended, read]).then(([end]) => ({ text, end })),
  };
}

/** A shell that runs `script` in a terminal. */
export function runInTerminal(
  t: ExecutionContext,
  script: string,
  options?: TerminalCommandOptions,
): Promise<TerminalCommand> {
  return startInTerminal(t, ['sh', '-c', script], options);
}
