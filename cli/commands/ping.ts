/** `vproxy ping`: measures the round-trip time to a peer. */
import type { ControlClient } from '../../lib/control/client/client.js';
import { VproxyError } from '../../lib/errors.js';
import { sleep, systemClock } from '../../lib/util/clock.js';
import { formatJson } from '../../lib/util/escape.js';
import { byLabel, chooseChannel } from '../../lib/util/labels.js';
import type { Arguments } from '../command/arguments.js';
import { CHANNEL_OPTION, type Command } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { channelOf } from '../command/labels.js';
import { print } from '../ui/print.js';

export const command: Command = {
  usage: 'ping [LABEL] [-c COUNT] [-i SECONDS] [--json]',
  about:
    'Measures the round-trip time to the peer of a channel, repeatedly until interrupted, or COUNT times. The status is 1 if no ping was answered.',
  examples: [
    ['vproxy ping vm1 -c 3', 'Three round trips'],
    ['vproxy ping -i 200ms', 'Five a second, until Ctrl-C'],
  ],
  options: {
    count: { short: 'c', value: 'COUNT', describe: 'Number of pings [default: unlimited]' },
    interval: { short: 'i', value: 'SECONDS', describe: 'Time between pings [default: 1]' },
    ...CHANNEL_OPTION,
    json: { describe: 'Print each ping as a line of JSON, without statistics' },
  },
  operands: ['[LABEL]'],
  run: ping,
};

/** The status if no ping was answered, as of ping(8). */
const EXIT_UNANSWERED = 1;

async function ping(args: Arguments): Promise<number> {
  const count = args.whole('count', 'a number of pings', 1, 1e9) ?? Number.POSITIVE_INFINITY;
  const intervalMs = (args.seconds('interval', 0, 3600) ?? 1) * 1000;
  const named = channelOf(args, args.operands[0]);
  const control = await openControl(args);
  const only = async () => chooseChannel(byLabel(await control.channels()));
  const { label } = await (named === undefined ? only() : control.channel(named));
  const interrupted = new AbortController();
  process.once('SIGINT', () => interrupted.abort()).once('SIGTERM', () => interrupted.abort());
  const statistics = new PingStatistics();
  const show = args.has('json') ? printLine : printText;
  try {
    for (let seq = 1; seq <= count && !interrupted.signal.aborted; seq++) {
      const due = performance.now() + intervalMs;
      const result = await pingOnce(control, label, interrupted.signal);
      if (result === null) break;
      statistics.add('roundTripMs' in result ? result.roundTripMs : null);
      show({ channel: label, seq, ...result });
      if (seq < count) await sleep(systemClock, Math.max(0, due - performance.now()), interrupted.signal);
    }
  } finally {
    if (!args.has('json')) print(`\n${statistics.format(label).join('\n')}\n`);
  }
  return statistics.answered === 0 ? EXIT_UNANSWERED : 0;
}

type PingResult = { readonly roundTripMs: number } | { readonly code: string; readonly message: string };

/** Resolves with null if interrupted; a missing session counts as an unanswered ping. Rejects with any other error. */
async function pingOnce(control: ControlClient, channel: string, signal: AbortSignal): Promise<PingResult | null> {
  try {
    const { roundTripMs } = await control.ping({ channel, signal });
    return { roundTripMs };
  } catch (error) {
    if (signal.aborted) return null;
    if (!(error instanceof VproxyError) || error.code !== 'no-session') throw error;
    return { code: error.code, message: error.message };
  }
}

type PingLine = PingResult & { readonly channel: string; readonly seq: number };

const printLine = (line: PingLine): void => print(`${formatJson(line)}\n`);

function printText(line: PingLine): void {
  const what = 'roundTripMs' in line ? `time=${line.roundTripMs.toFixed(3)} ms` : line.message;
  print(`${line.channel}: seq=${line.seq} ${what}\n`);
}

/** The statistics that ping(8) prints at its end. */
class PingStatistics {
  readonly #startMs = performance.now();
  #sent = 0;
  #answered = 0;
  #least = Number.POSITIVE_INFINITY;
  #most = 0;
  #sum = 0;
  #sumOfSquares = 0;

  /** Adds a ping with its round-trip time in milliseconds, or null if it was not answered. */
  add(roundTripMs: number | null): void {
    this.#sent += 1;
    if (roundTripMs === null) return;
    this.#answered += 1;
    this.#least = Math.min(this.#least, roundTripMs);
    this.#most = Math.max(this.#most, roundTripMs);
    this.#sum += roundTripMs;
    this.#sumOfSquares += roundTripMs ** 2;
  }

  get answered(): number {
    return this.#answered;
  }

  format(label: string): string[] {
    const lostPercent = this.#sent === 0 ? 0 : Math.round((100 * (this.#sent - this.#answered)) / this.#sent);
    const lines = [
      `--- ${label} ping statistics ---`,
      `${this.#sent} sent, ${this.#answered} answered, ${lostPercent}% lost, time ${Math.round(performance.now() - this.#startMs)} ms`,
    ];
    if (this.#answered === 0) return lines;
    const mean = this.#sum / this.#answered;
    const deviation = Math.sqrt(Math.max(0, this.#sumOfSquares / this.#answered - mean ** 2));
    const figures = [this.#least, mean, this.#most, deviation].map((ms) => ms.toFixed(3)).join('/');
    return [...lines, `round trip min/avg/max/mdev = ${figures} ms`];
  }
}
