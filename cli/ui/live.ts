/** Shows something on the whole terminal, and again after each interval, until the user quits. */
import { setTimeout as delay } from 'node:timers/promises';
import { Screen, type ScreenKey } from './screen.js';

/** What to show, and how often. */
export interface LiveView<T> {
  readonly intervalMs: number;
  /** The number of updates after which it ends. Default: none. */
  readonly count?: number;
  /** Reads what to show. */
  readonly look: (signal: AbortSignal) => Promise<T>;
  /**
   * Renders at most `height` lines of at most `width` columns, those below the first `scroll`; also returns `scroll`, clamped to
   * the last ones.
   */
  readonly render: (seen: T, scroll: number, size: ScreenSize) => { readonly lines: string[]; readonly scroll: number };
}

type ScreenSize = Pick<Screen, 'width' | 'height'>;

/** Resolves on `q`, Ctrl-C, a signal to end, or after the last update. Rejects if `look` does; the terminal is restored first. */
export async function showLive<T>({ intervalMs, count, look, render }: LiveView<T>): Promise<void> {
  const quit = new AbortController();
  let seen: { readonly value: T } | null = null;
  let scroll = 0;
  const draw = (): void => {
    if (seen === null) return;
    const frame = render(seen.value, scroll, screen);
    scroll = frame.scroll;
    screen.draw(frame.lines);
  };
  const onKey = (key: ScreenKey): void => {
    if (key === 'quit') quit.abort();
    else scroll = Math.max(0, scrolled(scroll, key, screen.height));
    draw();
  };
  const onSignal = (): void => quit.abort();
  const screen = new Screen({ onKey, onResize: draw });
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal).once('SIGHUP', onSignal);
  try {
    for (let left = count ?? Number.POSITIVE_INFINITY; left > 0 && !quit.signal.aborted; left--) {
      seen = { value: await look(quit.signal) };
      draw();
      await delay(intervalMs, undefined, { signal: quit.signal });
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
