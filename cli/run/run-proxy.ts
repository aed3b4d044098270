/** Runs one side of channels until it is told to stop: what `vproxy -c CHANNEL …` does once its words are read. */
import { setTimeout as delay } from 'node:timers/promises';
import { ControlServer } from '../../lib/control/server/control-server.js';
import { makeEvent } from '../../lib/events.js';
import type { AuditLog } from '../../lib/proxy/audit-log.js';
import type { Configuration } from '../../lib/settings/configuration.js';
import { BadFileError } from '../../lib/settings/problem.js';
import { boundYoungGeneration, optimizeWhenUsed } from '../engine.js';
import { EXIT_OK, exitOnDefect, exitStatusOf } from '../exit.js';
import { describeAgent } from '../package-info.js';
import { takeServiceEnvironment } from '../service/notifier.js';
import { chooseControlSocket, listenForControl, listenForMetrics, requireUnclaimed } from './control-socket.js';
import { loadConfiguration } from './load-configuration.js';
import { Output, openDebugLog } from './output.js';
import type { RunFlags } from './run-options.js';
import { RunningProcess, warnOfOpenPort, withRuntimeDirectory } from './running-process.js';

/** How long an end may take that a signal asked for, in milliseconds: a second with the time to get here. */
const STOP_MS = 900;

/** Does what the flags ask for. Resolves with the exit status. */
export async function runFlags(flags: RunFlags): Promise<number> {
  const load = () => loadConfiguration(flags, process.env['CREDENTIALS_DIRECTORY'] ?? null);
  let configuration: Configuration;
  try {
    configuration = await load();
  } catch (error) {
    if (!(error instanceof BadFileError)) throw error;
    const output = new Output();
    for (const message of error.problems) {
      output.log(makeEvent('failed', message, { code: error.code }));
    }
    return exitStatusOf(error);
  }
  if (flags.isPrinted) {
    const { formatConfiguration } = await import('../../lib/settings/describe.js');
    return print(formatConfiguration(configuration, flags.asJson ? 'json' : 'toml'));
  }
  return runProxy(configuration, flags.file === null ? null : load);
}

function print(text: string): Promise<number> {
  return new Promise((resolve) => process.stdout.write(text, () => resolve(EXIT_OK)));
}

/** Runs a proxy until SIGINT, SIGTERM, the end of an inherited channel, or a failure that no waiting can mend; gives the exit status. */
async function runProxy(configuration: Configuration, load: (() => Promise<Configuration>) | null): Promise<number> {
  boundYoungGeneration();
  const { logFormat: format, logLevel: level, logDetails: hasDetails } = configuration;
  const output = new Output({ format, level, hasDetails }, await openDebugLog(process.env['DEBUG']));
  exitOnDefect((error) => output.defect(error));
  const runtimeDirectory = process.env['XDG_RUNTIME_DIR'] ?? null;
  const isRoot = process.getuid?.() === 0;
  const { notifySocket, watchdogMs, controlDescriptor } = takeServiceEnvironment(process.env, process.pid);
  const socket = chooseControlSocket(configuration, { isRoot, runtimeDirectory }, process.pid, controlDescriptor);
  let audit: AuditLog | null = null;
  try {
    if (socket !== null) await requireUnclaimed(socket);
    if (configuration.audit !== undefined) {
      const { openAuditLog } = await import('./output.js');
      audit = openAuditLog(configuration.audit, (event) => running.log(event));
    }
  } catch (error) {
    output.failure(error);
    return exitStatusOf(error);
  }
  const { Proxy } = await import('../../lib/proxy/proxy.js');
  const channels = withRuntimeDirectory(configuration.channels, runtimeDirectory);
  const proxy = new Proxy({ channels, agent: describeAgent(), lineBytes: (event) => output.lineBytes(event) });
  optimizeWhenUsed(proxy);
  const running = new RunningProcess({ proxy, output, configuration, runtimeDirectory, audit, load });
  const control = new ControlServer({ proxy, process: running });
  running.on('log', (event) => control.record(event));
  proxy.on('log', (event) => output.log(event));
  if (audit !== null) proxy.on('audit', (event) => audit.record(event));
  proxy.on('fatal', (reason) => running.fail(reason));
  if (configuration.once) proxy.on('ended', (_label, reason) => running.endOnce(reason));
  warnOfOpenPort(proxy, { userId: process.getuid?.() ?? 0 }, running.log);
  process.on('SIGHUP', () => running.hangUp());
  const end = () => {
    // Without a listener a second signal ends the process at once.
    process.off('SIGINT', end).off('SIGTERM', end);
    running.stop();
  };
  process.on('SIGINT', end).on('SIGTERM', end);
  const manager =
    notifySocket === null
      ? null
      : new (await import('../service/service-manager.js')).ServiceManager({
          ...{ notifySocket, watchdogMs, proxy },
          log: running.log,
        });
  const start = async () => {
    await proxy.start();
    if (socket !== null) await listenForControl(control, socket, running.log);
    if (configuration.metrics !== undefined) await listenForMetrics(control, configuration.metrics, running.log);
    manager?.ready();
  };
  start().catch((error: unknown) => running.fail(error));
  const status = await running.ended;
  const closed = Promise.all([proxy.stop(), control.close(), manager?.stopping()]).then(() => audit?.close());
  await Promise.race([closed, delay(STOP_MS)]);
  return status;
}
