/** Shows something on the whole terminal, and again after each interval, until the user quits. */
import { writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { deferred } from '../../lib/util/concurrency.js';

export interface LiveView<T> {
  readonly intervalMs: number;
  /** The number of updates after which it ends. Default: none. */
  readonly count?: number;
  readonly look: (signal: AbortSignal) => Promise<T>;
  /** Called with each key that neither quits nor scrolls; then it looks again. Never rejects. Default: none has an effect. */
  readonly onText?: (key: string) => Promise<void>;
  /**
   * Renders at most `height` lines of at most `width` columns, those below the first `scroll`; also returns `scroll`, clamped to
   * the last ones.
   */
  readonly render: (seen: T, scroll: number, size: ScreenSize) => { readonly lines: string[]; readonly scroll: number };
}

type ScreenSize = Pick<Screen, 'width' | 'height'>;

/** Resolves on `q`, Ctrl-C, a signal to end, or after the last update. Rejects if `look` does; the terminal is restored first. */
export async function showLive<T>({ intervalMs, count, look, onText, render }: LiveView<T>): Promise<void> {
  const quit = new AbortController();
  let seen: { readonly value: T } | null = null;
  let scroll = 0;
  const draw = (): void => {
    if (seen === null || !screen.isReady) return;
    const frame = render(seen.value, scroll, screen);
    scroll = frame.scroll;
    screen.draw(frame.lines);
  };
  const onKey = (key: ScreenKey): void => {
    if (key === 'quit') quit.abort();
    else scroll = Math.max(0, scrolled(scroll, key, screen.height));
    draw();
  };
  let pressed = deferred();
  const onOther = (key: string): void => {
    void onText?.(key).then(() => pressed.resolve());
  };
  const onSignal = (): void => quit.abort();
  const screen = new Screen({ onKey, onText: onOther, onResize: draw });
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal).once('SIGHUP', onSignal);
  try {
    for (let left = count ?? Number.POSITIVE_INFINITY; left > 0 && !quit.signal.aborted; left--) {
      seen = { value: await look(quit.signal) };
      draw();
      pressed = deferred();
      await Promise.race([delay(intervalMs, undefined, { signal: quit.signal }), pressed.promise]);
    }
  } catch (error) {
    if (!quit.signal.aborted) throw error;
  } finally {
    screen.close();
  }
}

function scrolled(scroll: number, key: Exclude<ScreenKey, 'quit'>, height: number): number {
  const page = Math.max(1, Math.floor(height / 2));
  const steps = { up: -1, down: 1, 'page-up': -page, 'page-down': page, top: -scroll, bottom: Number.MAX_SAFE_INTEGER };
  return scroll + steps[key];
}

// The terminal.

/** With marks around what is pasted. */
const ENTER = '\u001b[?1049h\u001b[?25l\u001b[?2004h';
const LEAVE = '\u001b[?2004l\u001b[?25h\u001b[?1049l';

const PASTE_BEGINS = '\u001b[200~';
const PASTE_ENDS = '\u001b[201~';
const CTRL_C = '\u0003';

/** The pieces of a long paste follow each other faster, from a terminal that does not mark it. */
const PIECE_MS = 50;

type ScreenKey = 'quit' | 'up' | 'down' | 'page-up' | 'page-down' | 'top' | 'bottom';

const KEYS: Readonly<Record<string, ScreenKey>> = {
  q: 'quit',
  Q: 'quit',
  [CTRL_C]: 'quit',
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

/** A sequence of a key (ECMA-48, section 5.4), with any modifiers; one with Alt; or a character. */
const WORDS = /\u001b\[[0-?]*[ -/]*[@-~]|\u001bO.|\u001b[^]|[^]/g;

/** The beginning of a sequence whose end comes later. */
const UNFINISHED = /\u001b(?:\[[0-?]*[ -/]*|O)?$/;

/** The keys in what a terminal sent; `rest` is the beginning of another one. */
export function readKeys(text: string): { readonly keys: readonly string[]; readonly rest: string } {
  const [rest = ''] = UNFINISHED.exec(text) ?? [];
  return { keys: text.slice(0, text.length - rest.length).match(WORDS) ?? [], rest };
}

/** The alternate screen with a hidden cursor, and single key presses; `close` restores the terminal. */
class Screen {
  readonly #onExit = (): void => this.close();
  readonly #onData = (bytes: Buffer): void => this.#handleText(bytes.toString('latin1'));
  readonly #onResize: () => void;
  readonly #onKey: (key: ScreenKey) => void;
  readonly #onText: (text: string) => void;
  /** The beginning of a sequence. */
  #rest = '';
  #isPasting = false;
  /** When the last text was handled. */
  #handledMs = 0;
  #isOpen = true;

  constructor(handlers: {
    readonly onKey: (key: ScreenKey) => void;
    readonly onText: (text: string) => void;
    readonly onResize: () => void;
  }) {
    this.#onKey = handlers.onKey;
    this.#onText = handlers.onText;
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

  /** Whether the terminal has taken the previous frame; a slow one skips some. */
  get isReady(): boolean {
    return this.#isOpen && process.stdout.writableLength === 0;
  }

  /** Draws lines from the top; none may be wider than the terminal. */
  draw(lines: readonly string[]): void {
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
    const { keys, rest } = readKeys(this.#rest + text);
    this.#rest = rest;
    // What was pasted may have any meaning.
    const isAlone = keys.length === 1 && performance.now() - this.#handledMs > PIECE_MS;
    for (const key of keys) {
      if (key === PASTE_BEGINS || key === PASTE_ENDS) this.#isPasting = key === PASTE_BEGINS;
      if (this.#isPasting && key !== CTRL_C) continue;
      const meaning = KEYS[key];
      if (meaning !== undefined) this.#onKey(meaning);
      else if (isAlone) this.#onText(key);
    }
    this.#handledMs = performance.now();
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
