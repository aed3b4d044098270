/**
 * Messages to the service manager, sd_notify(3). Each is a datagram on a unix socket, which Node cannot send, so the
 * program systemd-notify does: docs/decisions/0013-systemd-notify.md.
 */
import { execFile } from 'node:child_process';
import { describeError } from '../../lib/util/describe-error.js';
import { escapeText } from '../../lib/util/escape.js';
import type { Log } from '../../lib/util/log-event.js';

/** Whoever takes longer is killed, in milliseconds. */
const TIMEOUT_MS = 10_000;

/** Sends facts to `NOTIFY_SOCKET`, in order; those that come while others are being sent go together. */
export class Notifier {
  readonly #socket: string;
  readonly #program: string;
  readonly #log: Log;
  #waiting: Record<string, string> = {};
  #sending: Promise<void> | null = null;
  #isBroken = false;

  /** `socket` is the address as the environment had it. What fails is a warning, once. `program` is for tests. */
  constructor(socket: string, log: Log, program = 'systemd-notify') {
    this.#socket = socket;
    this.#log = log;
    this.#program = program;
  }

  /** Sends `KEY=VALUE` for each fact; of one that is said again before it was sent, the last value counts. Never throws. */
  notify(facts: Readonly<Record<string, string>>): void {
    if (this.#isBroken) return;
    this.#waiting = { ...this.#waiting, ...facts };
    this.#sending ??= this.#sendAll().finally(() => {
      this.#sending = null;
    });
  }

  /** Resolved when everything has been sent, or cannot be. */
  async settled(): Promise<void> {
    await this.#sending;
  }

  async #sendAll(): Promise<void> {
    while (!this.#isBroken && Object.keys(this.#waiting).length > 0) {
      const words = Object.entries(this.#waiting).map(([key, value]) => `${key}=${value}`);
      this.#waiting = {};
      await this.#send(words);
    }
  }

  #send(words: readonly string[]): Promise<void> {
    const env = { ...process.env, NOTIFY_SOCKET: this.#socket };
    return new Promise((resolve) => {
      execFile(this.#program, words, { env, timeout: TIMEOUT_MS, killSignal: 'SIGKILL' }, (error, _stdout, stderr) => {
        if (error !== null) this.#fail(stderr.trim() || describeError(error));
        resolve();
      });
    });
  }

  #fail(reason: string): void {
    this.#isBroken = true;
    const message = `the service manager is not told how this goes: ${this.#program}: ${escapeText(reason, 300)}`;
    this.#log({ level: 'warn', event: 'notify-failed', message, fields: {} });
  }
}
