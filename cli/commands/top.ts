/** `vproxy top`: shows streams and channels, live. */
import { setTimeout as delay } from 'node:timers/promises';
import type { ControlClient } from '../../lib/control/client/client.js';
import type { Command } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { hasColors, obeysEscapes } from '../ui/color.js';
import { showLive } from '../ui/live.js';
import { print } from '../ui/print.js';
import { formatTopLine, renderFrame, type TopView, TrafficHistory } from '../ui/top.js';

export const command: Command = {
  usage: 'top [--interval SECONDS] [--count COUNT]',
  about:
    'Shows the streams, busiest first, the channels with their states, and the throughput, live. q or Ctrl-C quits, arrows or j/k scroll. If the output is not a terminal, or TERM is dumb, prints a line each interval.',
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
    const count = args.whole('count', 'a number of updates', 1, 1e9) ?? Number.POSITIVE_INFINITY;
    const control = await openControl(args);
    // Fail before the screen is switched, so that the error stays visible.
    await control.status();
    if (obeysEscapes(process.stdout)) await showScreen(control, intervalMs, count);
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
  await showLive<Omit<TopView, 'scroll'>>({
    intervalMs,
    count,
    async look(signal) {
      const [status, streams] = await Promise.all([control.status(signal), control.streams(signal)]);
      history.add(status, performance.now());
      return { status, streams, samples: history.samples, ...terminalTraits() };
    },
    render: (view, scroll, size) => renderFrame({ ...view, scroll }, size),
  });
}

function terminalTraits(): Pick<TopView, 'isColored' | 'isUnicode'> {
  const { LC_ALL, LC_CTYPE, LANG } = process.env;
  return {
    isColored: hasColors(process.stdout),
    isUnicode: /utf-?8/i.test(LC_ALL || LC_CTYPE || LANG || ''),
  };
}
