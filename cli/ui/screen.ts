/** The terminal while a live display uses it. */
import { writeSync } from 'node:fs';

const ENTER = '\u001b[?1049h\u001b[?25l';
const LEAVE = '\u001b[?25h\u001b[?1049l';

export type ScreenKey = 'quit' | 'up' | 'down' | 'page-up' | 'page-down' | 'top' | 'bottom';

const KEYS: Readonly<Record<string, ScreenKey>> = {
  q: 'quit',
  Q: 'quit',
  '\u0003': 'quit',
  k: 'up',
  '\u001b[A': 'up',
  '\u001bOA': 'up',
  j: 'down',
  '\u001b[B': 'down',
  '\u001bOB': 'down',
  '\u001b[5~': 'page-up',
  '\u001b[6~': 'page-down',
  ' ': 'page-down',
  g: 'top',
  '\u001b[H': 'top',
  G: 'bottom',
  '\u001b[F': 'bottom',
};

/** The alternate screen with a hidden cursor, and single key presses; `close` restores the terminal. */
export class Screen {
  readonly #onExit = (): void => this.close();
  readonly #onData = (bytes: Buffer): void => this.#handleText(bytes.toString('latin1'));
  readonly #onResize: () => void;
  readonly #onKey: (key: ScreenKey) => void;
  #isOpen = true;

  constructor(handlers: { readonly onKey: (key: ScreenKey) => void; readonly onResize: () => void }) {
    this.#onKey = handlers.onKey;
    this.#onResize = handlers.onResize;
    process.once('exit', this.#onExit);
    if (process.stdin.isTTY) process.stdin.setRawMode(true).on('data', this.#onData).resume();
    process.stdout.on('resize', this.#onResize);
    writeNow(ENTER);
  }

  get width(): number {
    return process.stdout.columns || 80;
  }

  get height(): number {
    return process.stdout.rows || 24;
  }

  /**
   * Draws lines from the top; none may be wider than the terminal. Skips a frame while a slow terminal has not taken the
   * previous one.
   */
  draw(lines: readonly string[]): void {
    if (!this.#isOpen || process.stdout.writableLength > 0) return;
    process.stdout.write(`\u001b[H${lines.map((line) => `${line}\u001b[K`).join('\r\n')}\u001b[J`);
  }

  /** Restores the terminal. May be called twice. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    process.off('exit', this.#onExit);
    process.stdout.off('resize', this.#onResize);
    if (process.stdin.isTTY) process.stdin.off('data', this.#onData).setRawMode(false).pause();
    writeNow(LEAVE);
  }

  #handleText(text: string): void {
    for (const [word] of text.matchAll(/\u001b\[\d*[A-Za-z~]|\u001bO[A-Z]|[^]/g)) {
      const key = KEYS[word];
      if (key !== undefined) this.#onKey(key);
    }
  }
}

/** Synchronous, as the process may be about to exit. */
function writeNow(text: string): void {
  try {
    writeSync(1, text);
  } catch {
    // The terminal has hung up.
  }
}
