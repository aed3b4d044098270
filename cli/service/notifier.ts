/**
 * Messages to the service manager, sd_notify(3). Each is a datagram on a unix socket, which Node cannot send, so
 * systemd-notify does it: docs/decisions/0013-systemd-notify.md.
 */

import { type Log, makeEvent } from '../../lib/events.js';
import { describeToolFailure, runTool } from '../../lib/system/processes/run-tool.js';
import { Backoff, type Clock, sleep, systemClock } from '../../lib/util/clock.js';
import { describeError, escapeText } from '../../lib/util/escape.js';

/** Timeout of systemd-notify, in milliseconds. */
const TIMEOUT_MS = 10_000;

/** A busy service manager may accept nothing for a while, but kills a process without watchdog messages: so retry soon. */
const RETRY = { firstMs: 1000, maxMs: 5000 };

type Facts = Readonly<Record<string, string>>;

interface NotifierOptions {
  /** The address as the environment had it. */
  readonly socket: string;
  /** Logs once when messages fail, and once when they succeed again. */
  readonly log: Log;
  /** Default `systemd-notify`. */
  readonly program?: string;
  readonly clock?: Clock;
}

/** Sends facts to `NOTIFY_SOCKET`, in order; those that arrive during a transmission are sent together. */
export class Notifier {
  readonly #options: Required<NotifierOptions>;
  readonly #backoff = new Backoff(RETRY);
  #waiting: Facts = {};
  #sending: Promise<void> | null = null;
  #hasFailed = false;
  readonly #ending = new AbortController();

  constructor(options: NotifierOptions) {
    this.#options = { program: 'systemd-notify', clock: systemClock, ...options };
  }

  /** Sends `KEY=VALUE` for each fact, with retries; a newer value replaces one that is still waiting. Never throws. */
  notify(facts: Facts): void {
    this.#waiting = { ...this.#waiting, ...facts };
    this.#sending ??= this.#sendAll().finally(() => {
      this.#sending = null;
    });
  }

  /** Sends the last facts, without further retries. Resolves when they were sent, or failed. */
  async end(facts: Facts): Promise<void> {
    this.#ending.abort();
    this.notify(facts);
    await this.#sending;
  }

  async #sendAll(): Promise<void> {
    const { signal } = this.#ending;
    while (Object.keys(this.#waiting).length > 0) {
      const facts = this.#waiting;
      this.#waiting = {};
      const failure = await this.#send(facts);
      this.#tell(failure);
      if (failure === null) continue;
      // Facts that arrived meanwhile are still sent once.
      if (signal.aborted && Object.keys(this.#waiting).length === 0) return;
      this.#waiting = { ...facts, ...this.#waiting };
      await sleep(this.#options.clock, this.#backoff.next(), signal);
    }
  }

  /** Resolves with null, or with the error text. */
  async #send(facts: Facts): Promise<string | null> {
    const { program, socket } = this.#options;
    const words = Object.entries(facts).map(([key, value]) => `${key}=${value}`);
    const env = { ...process.env, NOTIFY_SOCKET: socket };
    try {
      const result = await runTool([program, ...words], { env, timeoutMs: TIMEOUT_MS });
      return result.end === 0 ? null : describeToolFailure(program, result);
    } catch (error) {
      return describeError(error);
    }
  }

  #tell(failure: string | null): void {
    const { program, log } = this.#options;
    if (failure === null) this.#backoff.reset();
    if (this.#hasFailed === (failure !== null)) return;
    this.#hasFailed = failure !== null;
    if (failure === null) {
      log(makeEvent('notify-recovered', 'notifying the service manager works again', {}));
      return;
    }
    const reason = `${program}: ${escapeText(failure, 300)}`;
    const message = `cannot notify the service manager: ${reason}; retrying`;
    log(makeEvent('notify-failed', message, {}));
  }
}
