/** A process that runs a proxy: its parts, its signals, its exit, and its hand-over to a successor. */
import { setTimeout as delay } from 'node:timers/promises';
import { ControlServer } from '../../lib/control/server/control-server.js';
import { type Log, makeEvent } from '../../lib/events.js';
import type { AuditLog } from '../../lib/proxy/audit-log.js';
import type { WrittenOptions } from '../../lib/proxy/channel/channel-options.js';
import { HttpPorts } from '../../lib/proxy/ports/http-ports.js';
import type { Proxy } from '../../lib/proxy/proxy.js';
import type { Legacy } from '../../lib/proxy/proxy-options.js';
import { machineHistory } from '../../lib/services/machine-history.js';
import type { Configuration, ProcessConfiguration } from '../../lib/settings/configuration.js';
import type { KeepDescriptor } from '../../lib/system/descriptors.js';
import { hostFiles } from '../../lib/system/dns/host-files.js';
import type { MessageCalls } from '../../lib/system/unix-messages.js';
import { optimizeWhenUsed } from '../engine.js';
import { type ServiceEnvironment, successorEnvironment } from '../service/environment.js';
import type { ServiceManager } from '../service/service-manager.js';
import {
  countHandover,
  describeHandover,
  encodeDocument,
  encodeIdle,
  type HandoverDocument,
} from '../upgrade/document.js';
import { openAuditLog } from './output.js';
import { RunningProcess, type RunningProcessOptions, warnOfOpenPort } from './running-process.js';

/** Maximum duration of a shutdown by a signal, in milliseconds: a second including the time to get here. */
const STOP_MS = 900;

const INHERITED =
  'commands and hooks inherit the capabilities of this process; withholding them needs the optional package koffi';

/** The longest time of a timer. */
const LONGEST_MS = 2 ** 31 - 1;

/** What a start of its own and a take-over of another process have in common. */
export interface ProcessStart {
  /** Reads the new configuration; null without a file. */
  readonly load: ((running: ProcessConfiguration | null) => Promise<Configuration>) | null;
  /** Environment variables that this process removed, and a successor needs. */
  readonly variables: Readonly<Record<string, string>>;
  /** Whether its children inherit no capabilities, unless they need them. */
  readonly keepsCapabilities: boolean;
}

interface ProxyProcessOptions extends ProcessStart, Omit<RunningProcessOptions, 'load' | 'audit' | 'upgrade'> {
  readonly service: Pick<ServiceEnvironment, 'notifySocket' | 'watchdogMs' | 'storeSize'>;
  /** The module that notifies the service manager; null without one. */
  readonly manager: typeof import('../service/service-manager.js') | null;
}

/** Everything that runs in the process. Call `run` once. */
export class ProxyProcess {
  readonly proxy: Proxy;
  readonly running: RunningProcess;
  readonly control: ControlServer;
  readonly httpPorts: HttpPorts;
  readonly #options: ProxyProcessOptions;
  readonly #audit: AuditLog | null;
  readonly #manager: ServiceManager | null;

  /** Opens the audit log. Throws `cannot-create`. */
  constructor(options: ProxyProcessOptions) {
    const { configuration, load, output, proxy, service, manager, store, runtimeDirectory, keepsCapabilities } =
      options;
    const { audit, once } = configuration;
    this.#options = options;
    this.proxy = proxy;
    this.#audit = audit === undefined ? null : openAuditLog(audit, (event) => this.running.log(event));
    this.running = new RunningProcess({
      ...{ proxy, output, configuration, runtimeDirectory, load, store },
      audit: this.#audit,
      upgrade: async (request, signal, exit) => {
        const { handOver } = await import('../upgrade/predecessor.js');
        return handOver(this, { ...request, signal }, exit);
      },
    });
    const { running } = this;
    this.httpPorts = new HttpPorts({ proxy });
    running.httpPorts = this.httpPorts;
    this.control = new ControlServer({ proxy, process: running });
    running.on('log', (event) => this.control.record(event));
    proxy.on('log', (event) => output.log(event));
    // Without a listener, no event is composed for it.
    if (this.#audit !== null) proxy.on('audit', (event) => this.#audit?.record(event));
    proxy.on('fatal', (reason) => running.fail(reason));
    if (once) proxy.on('ended', (_label, reason) => running.endOnce(reason));
    if (!keepsCapabilities) running.log(makeEvent('capabilities-inherited', INHERITED, {}));
    warnOfOpenPort(proxy, { userId: process.getuid?.() ?? 0 }, running.log);
    hostFiles.onCut = (message, path) => running.log(makeEvent('hosts-cut', message, { path }));
    optimizeWhenUsed(proxy);
    const { notifySocket, watchdogMs } = service;
    this.#manager =
      manager === null || notifySocket === null
        ? null
        : new manager.ServiceManager({ notifySocket, watchdogMs, proxy, machine: machineHistory, log: running.log });
    this.#handleSignals();
  }

  /** Starts everything, and stops it when the process is to exit; resolves with the exit status. */
  async run(begin: () => Promise<void>): Promise<number> {
    const { control, proxy, running } = this;
    let isEnding = false;
    const start = async () => {
      await begin();
      if (isEnding) return;
      this.#options.store?.settle();
      this.#manager?.ready();
    };
    start().catch((error: unknown) => running.fail(error));
    // Without channels nothing else may keep the process running, and a reload can add some.
    const alive = setInterval(() => undefined, LONGEST_MS);
    const status = await running.ended;
    isEnding = true;
    clearInterval(alive);
    // At once if possible: until it stops, a channel that has lost its session opens again.
    if (proxy.whole !== null) await proxy.whole;
    this.#options.store?.end();
    const closed = Promise.all([proxy.stop(), control.close(), this.httpPorts.close(), this.#manager?.stopping()]);
    await Promise.race([closed, delay(STOP_MS)]);
    // However long the rest takes: what has ended is on record.
    await this.#audit?.close();
    return status;
  }

  /** Like `run`, for a process that has taken over. */
  runOn(
    document: Pick<HandoverDocument, 'counts' | 'writtenAtMs' | 'listeners' | 'httpPorts'>,
    legacy: Legacy,
  ): Promise<number> {
    return this.run(async () => {
      const { httpPorts, listeners } = document;
      const { take } = legacy;
      this.running.log(describeHandover(document));
      const restored = this.control.restore(listeners, take);
      const goesOn = this.proxy.goOn(legacy);
      // Before that, a request for an idle channel finds no channel.
      const served = this.proxy.whole?.then(() => httpPorts && this.httpPorts.restore(httpPorts, take));
      await Promise.all([restored, served, goesOn]);
    });
  }

  /** Called before this process is announced: without a handler, a reload that the service manager has queued would kill it. */
  #handleSignals(): void {
    const { running } = this;
    process.on('SIGHUP', () => void running.hangUp());
    const end = () => {
      // Without a listener, a second signal kills the process at once.
      process.off('SIGINT', end).off('SIGTERM', end);
      running.stop();
    };
    process.on('SIGINT', end).on('SIGTERM', end);
  }

  // ---- for a successor --------------------------------------------------------------------------------------------

  get log(): Log {
    return this.running.log;
  }

  obstacles(): string[] {
    const { others, isPassing } = this.#look(false);
    const { isChanging } = this.control;
    // Only then: otherwise, new requests would wait as long as everything else.
    if (isPassing && (isChanging || others.length > 0)) {
      this.control.letWait();
      this.httpPorts.letWait();
    }
    const all = [...(isChanging ? ['a control request in progress'] : []), ...others];
    return this.proxy.letWait(all.length === 0) ? ['connections that end'] : all;
  }

  cutObstacles(isForced: boolean): string[] {
    // Only then: nothing is reset for an upgrade that waits for something else, perhaps in vain.
    const isLast = this.#look(true).isPassing && !this.control.isChanging && !this.proxy.hasBriefChanges;
    return isForced || isLast ? this.proxy.cutObstacles(isForced) : [];
  }

  /** `isPassing`: they may all be gone in a moment, or are cut. */
  #look(isCutting: boolean) {
    const others = [
      ...(this.#audit?.isWriting === true ? ['unwritten lines of the audit log'] : []),
      ...(this.running.isReloading ? ['a reload in progress'] : []),
      ...this.proxy.obstacles(),
    ];
    return { others, isPassing: others.length === this.proxy.passingCount(isCutting) };
  }

  prepare(): WrittenOptions[] {
    return this.proxy.prepare();
  }

  *rehearse(): Generator<void> {
    // Twice: by then, V8 has compiled most of it.
    for (let pass = 0; pass < 2; pass += 1)
      for (const state of this.proxy.captureIdle()) yield void encodeDocument([state]).bytes.fill(0);
  }

  capture(keep: KeepDescriptor): HandoverDocument {
    const writtenAtMs = Date.now();
    const { idle, ...proxy } = this.proxy.capture(keep);
    const listeners = this.control.capture(keep);
    const httpPorts = this.httpPorts.capture(keep);
    return {
      configuration: this.running.configuration,
      proxy,
      idle: encodeIdle(idle),
      listeners,
      httpPorts,
      machine: machineHistory,
      counts: countHandover(
        { ...proxy, channels: [...proxy.channels, ...idle] },
        [...listeners, httpPorts ?? []].flat(),
      ),
      writtenAtMs,
    };
  }

  get environment(): Readonly<Record<string, string>> {
    return { ...successorEnvironment(this.#options.service), ...this.#options.variables };
  }

  get isService(): boolean {
    return this.#manager !== null;
  }

  announce(pid: number, calls: MessageCalls): void {
    this.#manager?.announceSuccessor(calls, pid);
  }
}
