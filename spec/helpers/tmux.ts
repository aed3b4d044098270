/** A terminal that a test can look at: tmux, with a server of its own. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import { eventually } from './eventually.js';

const run = promisify(execFile);

export class Terminal {
  readonly #server: string;

  constructor(server: string) {
    this.#server = server;
  }

  /** What is on the screen, line by line. */
  async screen(): Promise<string[]> {
    return (await this.#tmux('capture-pane', '-p')).split('\n').slice(0, -1);
  }

  /** Waits until the screen, its lines in one text, is like `pattern`; past `timeoutMs` (20,000) it rejects with the screen. */
  shows(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray> {
    const look = async () => {
      const screen = (await this.screen()).join('\n');
      const found = pattern.exec(screen);
      if (found === null) throw new Error(`on the screen:\n${screen.trimEnd()}`);
      return found;
    };
    return eventually(look, { what: String(pattern), ...(timeoutMs === undefined ? {} : { timeoutMs }) });
  }

  /** Presses keys, as tmux calls them: `q`, `Down`, `C-c`. */
  async press(...keys: readonly string[]): Promise<void> {
    await this.#tmux('send-keys', ...keys);
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

/** A terminal of 80x24 in which the shell runs `command`; gone when the test ends. */
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
