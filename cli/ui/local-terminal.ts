/** The user's terminal, while a remote command uses it. */

import type tty from 'node:tty';
import type { TerminalRequest, TerminalSize } from '../../lib/services/exec/exec-messages.js';
import { runToolNow } from '../../lib/system/processes/run-tool.js';

/** Their default is to end the process; SIGKILL cannot be handled. */
const ENDING_SIGNALS = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'] as const;

const DEFAULT_SIZE: TerminalSize = { columns: 80, rows: 24 };

/**
 * The terminal on standard input. From `start` to `stop` it is in raw mode: it passes on each key at once, including
 * Ctrl-C, and shows bytes as they are. Its settings are restored whenever the process exits or stops (SIGTSTP).
 *
 * Signals that end a process (SIGHUP, SIGINT, SIGQUIT, SIGTERM) or stop it still do, unless another listener is
 * registered for them: then that listener decides.
 */
export class LocalTerminal {
  readonly #restore = (): void => this.#setRaw(false);
  readonly #onEnd = (signal: NodeJS.Signals): void => this.#end(signal);
  readonly #onStop = (): void => this.#stopProcess();
  readonly #onContinue = (): void => this.#continue();
  readonly #onSize = (): void => this.#listener(this.size);
  readonly #outputs: readonly tty.WriteStream[];
  #listener: (size: TerminalSize) => void = () => undefined;
  #isStarted = false;
  #isRaw = false;

  /** Whether standard input is a terminal. */
  static isThere(): boolean {
    return process.stdin.isTTY;
  }

  constructor() {
    // Creating the streams now makes them update their size before later listeners are called.
    this.#outputs = [process.stdout, process.stderr];
  }

  /** Its type and its size, as a request for a command's terminal. */
  get request(): TerminalRequest {
    return { ...this.size, term: process.env['TERM'] ?? 'dumb' };
  }

  /** Its current size; 80x24 if unknown. */
  get size(): TerminalSize {
    const shown = this.#outputs.find((stream) => stream.isTTY);
    const [columns, rows] = shown === undefined ? askSize() : [shown.columns, shown.rows];
    return columns > 0 && rows > 0 ? { columns, rows } : DEFAULT_SIZE;
  }

  /** Calls `listener` with each new size from `start` to `stop`; replaces an earlier listener. */
  onResize(listener: (size: TerminalSize) => void): void {
    this.#listener = listener;
  }

  /** Switches to raw mode. Standard input must be a terminal, and stay open until `stop`. */
  start(): void {
    if (this.#isStarted) return;
    this.#isStarted = true;
    process.on('exit', this.#restore).on('uncaughtExceptionMonitor', this.#restore);
    for (const signal of ENDING_SIGNALS) process.on(signal, this.#onEnd);
    process.on('SIGTSTP', this.#onStop).on('SIGCONT', this.#onContinue).on('SIGWINCH', this.#onSize);
    this.#setRaw(true);
  }

  /** Restores the terminal. May be called twice. */
  stop(): void {
    if (!this.#isStarted) return;
    this.#isStarted = false;
    this.#setRaw(false);
    process.off('exit', this.#restore).off('uncaughtExceptionMonitor', this.#restore);
    for (const signal of ENDING_SIGNALS) process.off(signal, this.#onEnd);
    process.off('SIGTSTP', this.#onStop).off('SIGCONT', this.#onContinue).off('SIGWINCH', this.#onSize);
  }

  #end(signal: NodeJS.Signals): void {
    if (process.listenerCount(signal) > 1) return;
    this.stop();
    process.kill(process.pid, signal);
  }

  #stopProcess(): void {
    if (process.listenerCount('SIGTSTP') > 1) return;
    this.#setRaw(false);
    process.off('SIGTSTP', this.#onStop);
    // The process stops here. In an orphaned process group, where nothing could continue it, the kernel ignores the signal.
    process.kill(process.pid, 'SIGTSTP');
    process.on('SIGTSTP', this.#onStop);
    this.#setRaw(true);
  }

  /** After SIGSTOP, which cannot be handled, a shell may have changed the terminal's settings. */
  #continue(): void {
    this.#setRaw(false);
    this.#setRaw(true);
    this.#onSize();
  }

  #setRaw(isRaw: boolean): void {
    if (isRaw === this.#isRaw) return;
    this.#isRaw = isRaw;
    const { stdin } = process;
    const ignore = () => undefined;
    // A terminal that has hung up needs no restoring.
    stdin.on('error', ignore).setRawMode(isRaw).off('error', ignore);
    // Node's raw mode adds a carriage return to each line feed, which to a full-screen program only means "down by one".
    if (isRaw) runToolNow(['stty', '-opost'], STTY);
  }
}

/** stty needs this terminal. */
const STTY = { timeoutMs: 1000, hasTerminal: true };

function askSize(): readonly [columns: number, rows: number] {
  const stdout = runToolNow(['stty', 'size'], STTY);
  const [, rows = 0, columns = 0] = /^(\d+) (\d+)/.exec(stdout) ?? [];
  return [Number(columns), Number(rows)];
}

// Modes that a program leaves changed in the terminal, to restore them after its output was cut short.

/** Modes that are on by default: wrapping, and the cursor. */
const ON_AT_FIRST: ReadonlySet<string> = new Set(['7', '25']);

/** DECSET and DECRST, such as those of the alternate screen (1049), the mouse (1000) and pasting (2004). */
const MODES = /\u001b\[\?([\d;]{1,64})([hl])/g;

/** The longest sequence that may span two pieces, in characters. */
const TAIL_LENGTH = 72;

/**
 * Resets attributes, character set, keypad and the scrolling region; that one moves the cursor, so it is saved and
 * restored.
 */
const RESET = '\u001b[m\u001b(B\u000f\u001b>\u001b7\u001b[r\u001b8';

/** Follows the output of a terminal that begins with default modes. */
export class TerminalModes {
  readonly #changed = new Set<string>();
  #tail = '';

  /** Takes the next piece of the output. */
  follow(text: string): void {
    const whole = this.#tail + text;
    for (const [, numbers = '', letter] of whole.matchAll(MODES)) {
      for (const number of numbers.split(';')) {
        if ((letter === 'h') === ON_AT_FIRST.has(number)) this.#changed.delete(number);
        else this.#changed.add(number);
      }
    }
    this.#tail = whole.slice(-TAIL_LENGTH);
  }

  /** The output that restores the terminal. */
  restoring(): string {
    const modes = [...this.#changed].map((number) => `\u001b[?${number}${ON_AT_FIRST.has(number) ? 'h' : 'l'}`);
    return RESET + modes.join('');
  }
}
