/** Terminals: commands in their own, with everything shown so far; tmux; and devices that are terminals. */

import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import type { TerminalSize } from '../../lib/services/exec/exec-messages.js';
import type { LoadTerminalCalls } from '../../lib/services/exec/pty/pseudo-terminal.js';
import { spawnInTerminal } from '../../lib/services/exec/pty/spawn-in-terminal.js';
import type { CommandOptions } from '../../lib/services/exec/running-command.js';
import { eventually } from './time.js';

interface TerminalCommandOptions extends Partial<CommandOptions> {
  readonly loadCalls?: LoadTerminalCalls | undefined;
  /** Default: 101x33. */
  readonly size?: TerminalSize;
}

/** Starts a command in a terminal; it is killed when the test ends. */
export async function startInTerminal(
  t: ExecutionContext,
  argv: readonly string[],
  { loadCalls, size = { columns: 101, rows: 33 }, ...options }: TerminalCommandOptions = {},
) {
  const env = { PATH: process.env['PATH'] ?? '', LC_ALL: 'C' };
  const terminal = { ...size, term: 'xterm' };
  const command = await spawnInTerminal({ file: '/bin/sh', argv, cwd: '/', env, ...options }, terminal, loadCalls);
  t.teardown(async () => {
    command.signal('SIGKILL');
    await command.ended;
    command.release();
  });
  let text = '';
  command.stdout.setEncoding('latin1').on('data', (chunk: string) => void (text += chunk));
  const read = new Promise<void>((resolve) => void command.stdout.once('end', resolve));
  return {
    command,
    text: () => text,
    shows: (pattern: RegExp) => eventually(() => pattern.exec(text), { what: String(pattern) }),
    type: (keys: string) => void command.stdin?.write(keys),
    /** Everything that it has shown, and how it ended. */
    ended: Promise.all([command.ended, read]).then(([end]) => ({ text, end })),
  };
}

export const runInTerminal = (t: ExecutionContext, script: string, options?: TerminalCommandOptions) =>
  startInTerminal(t, ['sh', '-c', script], options);

// A terminal whose screen a test can read: tmux, with its own server.

const run = promisify(execFile);

export class Terminal {
  readonly #server: string;

  constructor(server: string) {
    this.#server = server;
  }

  async screen(): Promise<string[]> {
    return (await this.#tmux('capture-pane', '-p')).split('\n').slice(0, -1);
  }

  async coloredScreen(): Promise<string[]> {
    return (await this.#tmux('capture-pane', '-p', '-e')).split('\n').slice(0, -1);
  }

  /** Waits until the screen, its lines in one text, matches `pattern`; past `timeoutMs` (20,000) it rejects with the screen. */
  shows(pattern: RegExp, timeoutMs = 20_000): Promise<RegExpExecArray> {
    const look = async () => {
      const screen = (await this.screen()).join('\n');
      const found = pattern.exec(screen);
      if (found === null) throw new Error(`on the screen:\n${screen.trimEnd()}`);
      return found;
    };
    return eventually(look, { what: String(pattern), timeoutMs });
  }

  async press(...keys: readonly string[]): Promise<void> {
    await this.#tmux('send-keys', ...keys);
  }

  /** `isMarked`: as a paste, if the program asked for that. */
  async paste(text: string, isMarked: boolean): Promise<void> {
    await this.#tmux('set-buffer', text);
    await this.#tmux('paste-buffer', ...(isMarked ? ['-p'] : []));
  }

  async resize(width: number, height: number): Promise<void> {
    await this.#tmux('resize-window', '-x', String(width), '-y', String(height));
  }

  /** Whether the alternate screen is shown, and the cursor. */
  async modes(): Promise<{ readonly isAlternate: boolean; readonly hasCursor: boolean }> {
    const [alternate, cursor] = (await this.#tmux('display', '-p', '#{alternate_on} #{cursor_flag}')).trim().split(' ');
    return { isAlternate: alternate === '1', hasCursor: cursor === '1' };
  }

  async #tmux(...words: readonly string[]): Promise<string> {
    return (await run('tmux', ['-L', this.#server, ...words])).stdout;
  }
}

/** A terminal of 80x24 in which the shell runs `command`; closed when the test ends. */
export async function openTerminal(
  t: ExecutionContext,
  command: string,
  env: Readonly<Record<string, string>>,
): Promise<Terminal> {
  const server = `vproxy-${randomBytes(6).toString('hex')}`;
  const words = ['-u', '-L', server, '-f', '/dev/null', 'new-session', '-d', '-x', '80', '-y', '24', command];
  await run('tmux', words, { env: { ...process.env, LC_ALL: 'C.UTF-8', ...env } });
  t.teardown(() => run('tmux', ['-L', server, 'kill-server']).catch(() => undefined));
  return new Terminal(server);
}

// Pseudo-terminals in raw mode: character devices that stand in for virtio-serial ports.

/** The host's end of a stand-in, and the path of the guest's. */
export type Pty = Awaited<ReturnType<typeof openPty>>;

/** A pseudo-terminal, made by script(1), whose user also holds the guest's end open. */
export async function openPty(t: ExecutionContext) {
  const command = 'stty raw -echo -iexten -ixon; tty; exec sleep infinity';
  const child = spawn('script', ['-qfc', command, '/dev/null'], { stdio: ['pipe', 'pipe', 'ignore'] });
  child.stdin.on('error', () => undefined);
  t.teardown(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  });
  let text = '';
  while (!text.includes('\n')) text += String((await once(child.stdout, 'data'))[0]);
  child.stdout.pause().removeAllListeners('data');
  /** Closes the host's end: the guest's end is hung up. */
  const hangUp = (): void => void child.kill('SIGKILL');
  return { path: text.trim(), input: child.stdin, output: child.stdout, hangUp };
}

/** Two of them, back to back; the paths of their guests' ends. */
export async function openPtyPair(t: ExecutionContext): Promise<readonly [Pty, Pty]> {
  const [one, other] = await Promise.all([openPty(t), openPty(t)]);
  one.output.pipe(other.input);
  other.output.pipe(one.input);
  return [one, other];
}
