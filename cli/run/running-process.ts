/** A running vproxy: its proxy, its log, and the effects of signals and control requests. */

import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { EventEmitter } from 'eventemitter3';
import type { ProcessControl, UpgradeRequest } from '../../lib/control/context/context.js';
import { toVproxyError, VproxyError } from '../../lib/errors.js';
import { type Log, type LogEvent, type LogLevel, makeEvent } from '../../lib/events.js';
import type { AuditLog } from '../../lib/proxy/audit-log.js';
import type { ParsedOptions } from '../../lib/proxy/channel/channel-options.js';
import type { HttpPorts } from '../../lib/proxy/ports/http-ports.js';
import type { Proxy } from '../../lib/proxy/proxy.js';
import {
  type Configuration,
  describeConfiguration,
  type ProcessConfiguration,
} from '../../lib/settings/configuration.js';
import { completeChannel } from '../../lib/settings/merge.js';
import { BadFileError } from '../../lib/settings/problem.js';
import { PROCESS_SETTINGS } from '../../lib/settings/process-settings.js';
import type { ChannelChanges, ForwardStatus, ReloadAnswer, UpgradeAnswer } from '../../lib/status/types.js';
import { hasOtherUsers } from '../../lib/system/accounts.js';
import type { ListenerStore } from '../../lib/system/sockets/listener-store.js';
import { isLoopback, parseHostPort } from '../../lib/util/addresses/host-port.js';
import { deferred } from '../../lib/util/concurrency.js';
import { escapeText } from '../../lib/util/escape.js';
import { orElse } from '../../lib/util/or-else.js';
import { EXIT_OK, exitStatusOf } from '../exit.js';
import { describeAgent } from '../package-info.js';
import type { Output } from './output.js';

export interface RunningProcessOptions {
  readonly proxy: Proxy;
  readonly output: Output;
  /** The initial configuration. */
  readonly configuration: ProcessConfiguration;
  /** `$XDG_RUNTIME_DIR`, for the storage broker. */
  readonly runtimeDirectory: string | null;
  readonly audit: AuditLog | null;
  /** Reads the new configuration; null without a file. */
  readonly load: ((running: ProcessConfiguration) => Promise<Configuration>) | null;
  /** Keeps listening sockets for the next process; null without one. */
  readonly store: ListenerStore | null;
  /** Hands over to a successor, then calls `exit`. Rejects with `upgrade-failed`, also when `signal` is aborted. */
  readonly upgrade: (
    request: UpgradeRequest,
    signal: AbortSignal,
    exit: (answer: UpgradeAnswer) => never,
  ) => Promise<never>;
}

/** The operations of the process besides its proxy. */
export class RunningProcess extends EventEmitter<{ log: [event: LogEvent] }> implements ProcessControl {
  readonly version = describeAgent();
  /** Null: no port has a URL. */
  httpPorts: Pick<HttpPorts, 'urlOf'> | null = null;
  readonly #options: RunningProcessOptions;
  readonly #ended = deferred<number>();
  #configuration: ProcessConfiguration;
  #isEnding = false;
  #isDraining = false;
  /** Cancels the upgrade in progress; null without one. */
  #upgrading: AbortController | null = null;
  /** Reloads run serially, so that the newest file wins. */
  #reloading: Promise<unknown> = Promise.resolve();
  #reloadCount = 0;

  constructor(options: RunningProcessOptions) {
    super();
    this.#options = options;
    this.#configuration = options.configuration;
  }

  /** Resolves with the exit status when the process is to exit; never rejects. */
  get ended(): Promise<number> {
    return this.#ended.promise;
  }

  get name(): string | null {
    return this.#configuration.name ?? null;
  }

  portUrl(channel: string, port: number): string | null {
    return this.httpPorts?.urlOf(channel, port) ?? null;
  }

  get logLevel(): LogLevel {
    return this.#options.output.options.level;
  }

  set logLevel(level: LogLevel) {
    const { output } = this.#options;
    output.options = { ...output.options, level };
  }

  get ready(): Configuration['ready'] {
    return this.#configuration.ready;
  }

  get isDraining(): boolean {
    return this.#isDraining || this.#isEnding;
  }

  get lostLines() {
    const { audit, output } = this.#options;
    return { log: output.lostTotal, audit: audit?.lostTotal ?? 0 };
  }

  get channelDefaults() {
    const { channelDefaults: settings } = this.#configuration;
    const { runtimeDirectory } = this.#options;
    return { ...settings, storage: { ...settings.storage, runtimeDirectory } };
  }

  /** The active configuration, in the form of a configuration file. */
  get config(): unknown {
    // The members of a group follow from the group.
    const declared = this.#options.proxy.parsedOptions.filter(({ group = null }) => group === null);
    const channels = declared.map(completeChannel);
    return describeConfiguration({ ...this.#configuration, logLevel: this.logLevel, channels });
  }

  /** Logs an event of the process rather than of the proxy. */
  readonly log = (event: LogEvent): void => {
    this.#options.output.log(event);
    this.emit('log', event);
  };

  /**
   * Reads the file again and applies its channels and forwards, then retries each waiting channel at once. A failure is logged,
   * and changes nothing.
   */
  reload(): Promise<ReloadAnswer> {
    this.#reloadCount += 1;
    const done = this.#reloading
      .then(() => this.#reload())
      .finally(() => {
        this.#reloadCount -= 1;
      });
    this.#reloading = done.catch(() => undefined);
    return done;
  }

  get isReloading(): boolean {
    return this.#reloadCount > 0;
  }

  /** Refuses new streams, and exits when the open ones have ended, or after `timeoutMs`. */
  drain(timeoutMs: number): void {
    const message = `draining: exiting when all streams have ended, at the latest in ${timeoutMs / 1000} s`;
    this.log(makeEvent('draining', message, { timeoutMs }));
    this.#isDraining = true;
    this.#endUpgrade();
    this.#options.store?.end();
    void Promise.race([this.#options.proxy.drain(), delay(timeoutMs)]).then(() => this.stop());
  }

  /** The active configuration, for a successor of this process. */
  get configuration(): ProcessConfiguration {
    return { ...this.#configuration, logLevel: this.logLevel };
  }

  /** Hands over to a successor, calls `answer` and exits. If it rejects (`upgrade-failed`), the process continues. */
  async upgrade(request: UpgradeRequest, answer: (answer: UpgradeAnswer) => void): Promise<never> {
    try {
      if (this.#upgrading !== null) throw new VproxyError('upgrade-failed', 'another upgrade is in progress');
      if (this.#isEnding || this.#isDraining) throw isEnding();
      this.#upgrading = new AbortController();
      try {
        return await this.#options.upgrade(request, this.#upgrading.signal, (report) => {
          answer(report);
          return process.exit(EXIT_OK);
        });
      } finally {
        this.#upgrading = null;
      }
    } catch (error) {
      const { code, message } = toVproxyError(error);
      this.log(makeEvent('upgrade-failed', `not upgraded: ${message}`, { code }));
      throw error;
    }
  }

  stop(): void {
    this.#isEnding = true;
    this.#endUpgrade();
    this.#ended.resolve(EXIT_OK);
  }

  /** Handles SIGHUP: reloads and reopens files, and retries waiting channels at once. Failures are logged. */
  async hangUp(): Promise<void> {
    const { load, proxy, audit } = this.#options;
    audit?.reopen();
    await proxy.whole;
    if (load !== null) {
      this.reload().catch(() => undefined);
      return;
    }
    this.#reloadKeys();
    proxy.retryNow();
  }

  /** Ends a `--once` process when its session has ended, or could not be established. */
  endOnce(reason: VproxyError): void {
    if (this.#isEnding) return;
    const message = `the session ended: ${escapeText(reason.message, 512)} (${escapeText(reason.code, 64)})`;
    if (reason.code !== 'shutdown') {
      this.fail(new VproxyError(reason.code, message));
      return;
    }
    this.log(makeEvent('ended', message, { code: reason.code }));
    this.stop();
  }

  /** Logs a failure and ends the process; the regular end of an inherited channel is not a failure. */
  fail(reason: unknown): void {
    this.#isEnding = true;
    this.#endUpgrade();
    const status = exitStatusOf(reason);
    const { code, message } = toVproxyError(reason);
    if (status === EXIT_OK) this.log(makeEvent('ended', message, { code }));
    else this.#options.output.failure(reason);
    this.#ended.resolve(status);
  }

  #endUpgrade(): void {
    this.#upgrading?.abort(isEnding());
  }

  async #reload(): Promise<ReloadAnswer> {
    const { load, proxy, runtimeDirectory } = this.#options;
    if (load === null) throw new VproxyError('bad-argument', 'nothing to reload: started without --config');
    try {
      const wanted = await load(this.#configuration);
      const changes = await proxy.apply(withRuntimeDirectory(wanted.channels, runtimeDirectory));
      const nextStart = this.#adopt(wanted);
      this.#reloadKeys();
      const message = `reloaded: ${describeChanges(changes)}`;
      this.log(makeEvent('reloaded', message, { ...changes }));
      return { ...changes, nextStart };
    } catch (error) {
      const { code, message } = toVproxyError(error);
      for (const problem of error instanceof BadFileError ? error.problems : [message]) {
        this.log(makeEvent('reload-failed', `not reloaded: ${problem}`, { code }));
      }
      throw error;
    } finally {
      proxy.retryNow();
    }
  }

  /** Logs invalid key files; their channels keep the current keys. */
  #reloadKeys(): void {
    for (const { code, message } of this.#options.proxy.reloadKeys()) {
      this.log(makeEvent('reload-failed', `keys not reloaded: ${message}`, { code }));
    }
  }

  /** Adopts the process settings; returns the keys of those that take effect only at the next start. */
  #adopt(wanted: Configuration): string[] {
    const { output } = this.#options;
    const old = this.#configuration;
    // A level set by a request stays until the file changes its own.
    const level = wanted.logLevel === old.logLevel ? output.options.level : wanted.logLevel;
    output.options = { ...output.options, level, format: wanted.logFormat, hasDetails: wanted.logDetails };
    const fixed = PROCESS_SETTINGS.filter(
      ({ field, reload }) => reload === 'start' && !isDeepStrictEqual(wanted[field], old[field]),
    ).map(({ key }) => key);
    if (fixed.length > 0) {
      const message = `${fixed.join(', ')}: changed in the file; takes effect at the next start`;
      this.log(makeEvent('reload-incomplete', message, { keys: fixed }));
    }
    const { ready, logLevel, logFormat, logDetails, channelDefaults } = wanted;
    this.#configuration = { ...old, ready, logLevel, logFormat, logDetails, channelDefaults };
    return fixed;
  }
}

const isEnding = (): VproxyError => new VproxyError('upgrade-failed', 'this process is shutting down');

/** Adds the folder in which the storage broker may create its socket. */
export function withRuntimeDirectory(
  channels: readonly ParsedOptions[],
  runtimeDirectory: string | null,
): ParsedOptions[] {
  return channels.map((channel) => ({ ...channel, storage: { ...channel.storage, runtimeDirectory } }));
}

function describeChanges(changes: ChannelChanges): string {
  const parts = [
    ['channels added', changes.addedChannels],
    ['channels removed', changes.removedChannels],
    ['channels restarted', changes.replacedChannels],
    ['forwards added', changes.addedForwards],
    ['forwards removed', changes.removedForwards],
    ['rules changed', changes.changedPolicies],
    ['egresses changed', changes.changedEgress],
    ['settings changed', changes.changedSettings],
  ] as const;
  const said = parts.filter(([, list]) => list.length > 0).map(([what, list]) => `${what}: ${list.join(' ')}`);
  return escapeText(said.join('; ') || 'no changes', 1024);
}

/** The users of the machine. */
interface Neighbours {
  /** The user that runs this process. */
  readonly userId: number;
  /** Default `/etc/passwd`. */
  readonly passwdFile?: string;
}

/** Warns once, for the first forward that listens on loopback, if users besides its own and root can log in. */
export function warnOfOpenPort(proxy: Proxy, { userId, passwdFile }: Neighbours, log: Log): void {
  const look = ({ endpoint, service }: ForwardStatus) => {
    if (!isLoopbackPort(endpoint)) return;
    proxy.off('listening', look);
    const message = `every user of this machine can connect to ${endpoint}; to allow only yours, use a unix socket (-o ${service}:/path)`;
    void hasOtherUsers(userId, passwdFile).then((hasThem) => {
      if (hasThem) log(makeEvent('open-port', message, { endpoint }));
    });
  };
  proxy.on('listening', look);
}

const isLoopbackPort = (endpoint: string): boolean => orElse(false, () => isLoopback(parseHostPort(endpoint, 0).host));
