/**
 * Shows on stderr what long work waits for: in a terminal, as a line that is redrawn, and cleared at the end. Reports, even without
 * a terminal, that its channel is silent, and that it answers again.
 */
import { writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { isatty } from 'node:tty';
import { getValue } from '../../lib/control/client/plain-http.js';
import type { ChannelStatus } from '../../lib/status/types.js';
import { obeysEscapes } from './color.js';

/** The delay before the first line, and between two, in milliseconds: shorter waits show nothing. */
const INTERVAL_MS = 500;

/**
 * Waits for `work`, and shows the results of `look` in one line of the terminal, which is cleared at the end; null shows
 * nothing. A failure of `look` is not reported: `work` will report it.
 */
export async function showProgress<T>(look: () => Promise<string | null>, work: Promise<T>): Promise<T> {
  if (!obeysEscapes(process.stderr)) return work;
  const ended = new AbortController();
  const shown = repeat(look, ended.signal);
  try {
    return await work;
  } finally {
    ended.abort();
    await shown;
  }
}

async function repeat(look: () => Promise<string | null>, signal: AbortSignal): Promise<void> {
  let shown = '';
  try {
    for (;;) {
      await delay(INTERVAL_MS, undefined, { signal });
      const line = await look();
      if (line === null || line === shown || signal.aborted) continue;
      // A longer line would take two rows, and only one is cleared.
      const width = (process.stderr.columns || 80) - 1;
      process.stderr.write(`\r\u001b[K${`vproxy: ${line}`.slice(0, width)}`);
      shown = line;
    }
  } catch {
    if (shown !== '') process.stderr.write('\r\u001b[K');
  }
}

/** How long a process may take to answer, in milliseconds. */
const ANSWER_MS = 2000;

/** The channel that a command waits for, if it is silent. */
export class SilentChannel {
  readonly #path: string;
  readonly #channel: string | undefined;
  #told: string | null = null;

  /** `path`: the control socket. `channel`: undefined for any. */
  constructor(path: string, channel: string | undefined) {
    this.#path = path;
    this.#channel = channel;
  }

  /** Whether its silence was reported, and not yet its end. */
  get isTold(): boolean {
    return this.#told !== null;
  }

  /** Asks the process, and reports what has changed. Never rejects: the command itself will report a process that is gone. */
  async look(): Promise<void> {
    try {
      const all = await getValue<ChannelStatus[]>(this.#path, '/v1/channels', AbortSignal.timeout(ANSWER_MS));
      const channels = all.filter(({ label }) => label === (this.#told ?? this.#channel ?? label));
      const silent = channels.find(({ session }) => typeof session?.silentMs === 'number');
      if (this.#told === null && silent !== undefined) {
        const seconds = Math.round((silent.session?.silentMs ?? 0) / 1000);
        say(`${silent.label} has been silent for ${seconds} s: still waiting for an answer`);
        this.#told = silent.label;
      } else if (silent === undefined && channels[0]?.state === 'established') this.tellEnd();
    } catch {
      // See above.
    }
  }

  /** Reports that it answers again, if its silence was reported. */
  tellEnd(): void {
    if (this.#told !== null) say(`${this.#told} answers again`);
    this.#told = null;
  }
}

function say(text: string): void {
  // A terminal may be in raw mode, and its cursor within a line.
  const [before, after] = isatty(2) ? ['\r\n', '\r\n'] : ['', '\n'];
  try {
    writeSync(2, `${before}vproxy: ${text}${after}`);
  } catch {
    // Nobody reads standard error.
  }
}
