/** `vproxy top`: shows streams and channels, live. */
import { setTimeout as delay } from 'node:timers/promises';
import type { ControlClient } from '../../lib/control/client/client.js';
import type { Command } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { hasColors } from '../ui/color.js';
import { print } from '../ui/print.js';
import { Screen, type ScreenKey } from '../ui/screen.js';
import { formatTopLine, renderFrame, type TopView, TrafficHistory } from '../ui/top.js';

export const command: Command = {
  usage: 'top [--interval SECONDS] [--count COUNT]',
  about:
    'Shows the streams, busiest first, the channels with their states, and the throughput, live. q or Ctrl-C quits, arrows or j/k scroll. If the output is not a terminal, prints a line each interval.',
  examples: [
    ['vproxy top', 'Live, until q'],
    ['vproxy top --interval 5m --count 12 >> traffic.log', 'A line every five minutes, for an hour'],
  ],
  foreign: { '-d': 'did you mean --interval?' },
  options: {
    interval: { value: 'SECONDS', describe: 'Time between updates [default: 1]' },
    count: { short: 'n', value: 'COUNT', describe: 'Exit after COUNT updates [default: never]' },
  },
  meant: ['top --name LABEL'],
  async run(args) {
    const intervalMs = (args.seconds('interval', 0.1, 3600) ?? 1) * 1000;
    const count = args.number('count', 'updates', 1, 1e9) ?? Number.POSITIVE_INFINITY;
    const control = await openControl(args);
    // Fail before the screen is switched, so that the error stays visible.
    await control.status();
    if (process.stdout.isTTY) await showScreen(control, intervalMs, count);
    else await printLines(control, intervalMs, count);
  },
};

/** Rates need two samples, so the first line comes after an interval. */
async function printLines(control: ControlClient, intervalMs: number, count: number): Promise<void> {
  const history = new TrafficHistory();
  history.add(await control.status(), performance.now());
  for (let done = 0; done < count; done++) {
    await delay(intervalMs);
    const status = await control.status();
    history.add(status, performance.now());
    print(`${new Date().toISOString()} ${formatTopLine({ status, samples: history.samples })}\n`);
  }
}

async function showScreen(control: ControlClient, intervalMs: number, count: number): Promise<void> {
  const history = new TrafficHistory();
  const quit = new AbortController();
  let view: TopView | null = null;
  let scroll = 0;
  const draw = (): void => {
    if (view === null) return;
    const frame = renderFrame({ ...view, scroll }, screen);
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
    for (let done = 0; done < count && !quit.signal.aborted; done++) {
      const [status, streams] = await Promise.all([control.status(quit.signal), control.streams(quit.signal)]);
      history.add(status, performance.now());
      view = { status, streams, samples: history.samples, scroll, ...terminalTraits() };
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

function terminalTraits(): Pick<TopView, 'isColored' | 'isUnicode'> {
  const { LC_ALL, LC_CTYPE, LANG } = process.env;
  return {
    isColored: hasColors(process.stdout),
    isUnicode: /utf-?8/i.test(LC_ALL || LC_CTYPE || LANG || ''),
  };
}
