/** Notifications of a running vproxy to the service manager: ready, watchdog, status, stopping, and main process. */

import { closeSync, fstatSync } from 'node:fs';
import { constants } from 'node:os';
import type { Log, LogLevel } from '../../lib/events.js';
import type { Proxy } from '../../lib/proxy/proxy.js';
import type { MachineHistory } from '../../lib/services/machine-history.js';
import type { ChannelStatus } from '../../lib/status/types.js';
import { systemError } from '../../lib/system/libc.js';
import type { MessageCalls } from '../../lib/system/unix-messages.js';
import { escapeText } from '../../lib/util/escape.js';
import { describeRefused } from '../ui/machine-history.js';
import { Notifier } from './notifier.js';

/** Changes within this time are sent as one change of the status, in milliseconds. */
const STATUS_DELAY_MS = 500;

/** Timeout for announcing the successor, in milliseconds: the process is blocked meanwhile. */
const ANNOUNCE_MS = 1000;

export interface ServiceManagerOptions {
  readonly notifySocket: string;
  /** Null without a watchdog. */
  readonly watchdogMs: number | null;
  readonly proxy: Proxy;
  readonly machine: Pick<MachineHistory, 'refusedOptions'>;
  readonly log: Log;
}

/** The service manager of this process. Call `ready` once, then `stopping` once. */
export class ServiceManager {
  readonly #options: ServiceManagerOptions;
  readonly #notifier: Notifier;
  #shown = '';
  #timer: NodeJS.Timeout | null = null;
  #heartbeat: NodeJS.Timeout | null = null;

  constructor(options: ServiceManagerOptions) {
    this.#options = options;
    this.#notifier = new Notifier({ socket: options.notifySocket, log: options.log });
  }

  /** Announces that everything is set up, and starts sending the status and the watchdog messages. */
  ready(): void {
    const { proxy, watchdogMs } = this.#options;
    this.#shown = this.#status();
    this.#notifier.notify({ READY: '1', STATUS: this.#shown });
    proxy.on('changed', this.#onChanged);
    if (watchdogMs === null) return;
    this.#heartbeat = setInterval(() => this.#notifier.notify({ WATCHDOG: '1' }), watchdogMs / 2);
    this.#heartbeat.unref();
  }

  /** Announces the shutdown. Resolves when that is sent. */
  async stopping(): Promise<void> {
    this.#options.proxy.off('changed', this.#onChanged);
    clearTimeout(this.#timer ?? undefined);
    clearInterval(this.#heartbeat ?? undefined);
    await this.#notifier.end({ STOPPING: '1', STATUS: 'shutting down' });
  }

  /**
   * Announces that the process `pid` is the main one. Call it just before this one exits, or with its own PID if it continues
   * after all. Blocks for at most a second. Throws a system error if it fails.
   */
  announceSuccessor(calls: MessageCalls, pid: number): void {
    announceSuccessor(calls, this.#options.notifySocket, pid, ANNOUNCE_MS);
  }

  readonly #onChanged = (): void => {
    if (this.#timer !== null) return;
    this.#timer = setTimeout(() => this.#tellStatus(), STATUS_DELAY_MS);
    this.#timer.unref();
  };

  #tellStatus(): void {
    this.#timer = null;
    const status = this.#status();
    if (status === this.#shown) return;
    this.#shown = status;
    this.#notifier.notify({ STATUS: status });
  }

  #status(): string {
    const { machine, proxy } = this.#options;
    const status = formatServiceStatus(proxy.listChannels());
    const { refusedOptions } = machine;
    return refusedOptions === null ? status : `${describeRefused(refusedOptions)}; ${status}`;
  }
}

/**
 * Announces, at the socket `notifySocket`, that the process `pid` is the main one of the service, and resets the watchdog: the
 * successor gets its full time. Call it just before this process exits. Blocks while the service manager accepts no messages, for
 * at most `timeoutMs`. Throws a system error if it fails: the end of this process would then be that of the service.
 */
export function announceSuccessor(calls: MessageCalls, notifySocket: string, pid: number, timeoutMs: number): void {
  const deadline = performance.now() + timeoutMs;
  const message = Buffer.from(`MAINPID=${pid}\nWATCHDOG=1`);
  const fd = calls.openDatagrams(notifySocket);
  try {
    while (calls.send(fd, message) === null) {
      if (calls.wait(fd, 'writable', deadline - performance.now())) continue;
      throw systemError('sendmsg', constants.errno.ETIMEDOUT);
    }
  } finally {
    closeSync(fd);
  }
}

const MAX_LENGTH = 300;

/** Formats the line for `systemctl status`: the peer or the state of a single channel; of several, how many have a session. */
export function formatServiceStatus(channels: readonly ChannelStatus[]): string {
  const [only] = channels;
  if (only === undefined) return 'no channels';
  if (channels.length === 1) return escapeText(describe(only), MAX_LENGTH);
  const count = channels.filter(({ session }) => session !== null).length;
  return `${count} of ${channels.length} channels ${count === 1 ? 'has' : 'have'} a session`;
}

function describe({ state, detail, session }: ChannelStatus): string {
  if (session === null) return `no session, ${state}${detail === null ? '' : `: ${detail}`}`;
  const { name, agent } = session.peer;
  return `session with ${name ?? 'the peer'} (${agent})`;
}

// Whether a log goes to the journal, and its priorities there: sd-daemon(3).

/** The prefixes of lines, which the journal strips. */
export const PRIORITIES: Readonly<Record<LogLevel, string>> = { error: '<3>', warn: '<4>', info: '<6>', debug: '<7>' };

/** Whether a descriptor is the stream that `$JOURNAL_STREAM` (device and inode) names. */
export function isJournal(stream: string | undefined, fd: number): boolean {
  if (!stream) return false;
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return stream === `${dev}:${ino}`;
  } catch {
    return false;
  }
}
