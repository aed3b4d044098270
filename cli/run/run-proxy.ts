/** The run command, `vproxy -c CHANNEL …`, once its words are parsed: runs one side of channels until stopped. */

import type { ControlPlace } from '../../lib/control/socket-paths.js';
import { type Log, type LogEvent, makeEvent } from '../../lib/events.js';
import { findObstacles, requireAccess } from '../../lib/proxy/channel/check-channel.js';
import type { FindRival } from '../../lib/proxy/channel/rival.js';
import { machineHistory } from '../../lib/services/machine-history.js';
import type { Configuration, ProcessConfiguration } from '../../lib/settings/configuration.js';
import { BadFileError } from '../../lib/settings/problem.js';
import { keepCapabilities } from '../../lib/system/capabilities.js';
import { closeInheritedOnExec } from '../../lib/system/descriptors.js';
import { type ListenerStore, useListenerStore } from '../../lib/system/sockets/listener-store.js';
import { keepHeapSmall } from '../engine.js';
import { EXIT_OK, exitOnDefect, exitStatusOf } from '../exit.js';
import { describeAgent } from '../package-info.js';
import { type ServiceEnvironment, takeServiceEnvironment } from '../service/environment.js';
import { describeHandover } from '../upgrade/document.js';
import { takeHandoverDescriptor } from '../upgrade/starting.js';
import { chooseControlSocket, listenForControl, listenForMetrics, requireUnclaimed } from './control-socket.js';
import { loadConfiguration } from './load-configuration.js';
import { type DebugLog, Output, openDebugLog } from './output.js';
import { nameProcess } from './process-name.js';
import { type ProcessStart, ProxyProcess } from './proxy-process.js';
import type { RunFlags } from './run-options.js';
import { withRuntimeDirectory } from './running-process.js';

/** Runs what the flags ask for, which were read from `variables`, too. Resolves with the exit status. */
export async function runFlags(flags: RunFlags, variables: ProcessStart['variables']): Promise<number> {
  // By default, the signal opens a debugger: through it, a command of the same user would run code with this process's capabilities.
  process.on('SIGUSR1', () => undefined);
  const isWanted = process.execArgv.join(' ').includes('--inspect');
  if (process.features.inspector && !isWanted) process.getBuiltinModule('node:inspector').close();
  await closeInheritedOnExec();
  const keepsCapabilities = await keepCapabilities();
  const credentials = process.env['CREDENTIALS_DIRECTORY'] ?? null;
  const load = (running: ProcessConfiguration | null) => loadConfiguration(flags, credentials, running);
  const start = { load: flags.file === null ? null : load, variables, keepsCapabilities };
  const handover = takeHandoverDescriptor(process.env);
  if (handover !== null) return succeed(handover, start);
  let configuration: Configuration;
  try {
    configuration = await load(null);
  } catch (error) {
    if (!(error instanceof BadFileError)) throw error;
    const output = new Output();
    for (const message of error.problems) output.log(makeEvent('failed', message, { code: error.code }));
    return exitStatusOf(error);
  }
  if (flags.isPrinted) {
    const { formatConfiguration } = await import('../../lib/settings/configuration.js');
    await print(formatConfiguration(configuration, flags.asJson ? 'json' : 'toml'));
    const [refusal] = (await findObstacles(configuration.channels)).values();
    if (refusal !== undefined) throw refusal;
    return EXIT_OK;
  }
  return runProxy(configuration, start);
}

function print(text: string): Promise<void> {
  return new Promise((resolve) => process.stdout.write(text, () => resolve()));
}

/** Runs a proxy until SIGINT, SIGTERM, the end of an inherited channel, or a permanent failure; resolves with the exit status. */
async function runProxy({ channels: declared, ...configuration }: Configuration, start: ProcessStart): Promise<number> {
  nameProcess(process.argv.slice(2));
  keepHeapSmall();
  const output = makeOutput(configuration, await openDebugLog(process.env['DEBUG']));
  const runtimeDirectory = process.env['XDG_RUNTIME_DIR'] ?? null;
  const isRoot = process.getuid?.() === 0;
  const service = takeServiceEnvironment(process.env, process.pid);
  machineHistory.refusedOptions = service.refusedOptions;
  const store = await openStore(service, (event) => output.log(event));
  const place = { isRoot, runtimeDirectory };
  const socket = chooseControlSocket(configuration, place, process.pid, service.controlDescriptor);
  const { Proxy } = await import('../../lib/proxy/proxy.js');
  const manager = service.notifySocket === null ? null : await import('../service/service-manager.js');
  let made: ProxyProcess;
  try {
    if (socket !== null) await requireUnclaimed(socket);
    const channels = withRuntimeDirectory(declared, runtimeDirectory);
    for (const channel of channels) await requireAccess(channel);
    const proxy = new Proxy({
      channels,
      agent: describeAgent(),
      lineBytes: (event) => output.lineBytes(event),
      findRival: rivalFinder(place, () => made.control.paths),
    });
    made = new ProxyProcess({ ...start, configuration, output, proxy, service, manager, store, runtimeDirectory });
  } catch (error) {
    // Nothing has run yet: report it like a wrong argument.
    output.options = { ...output.options, hasTimes: false };
    output.failure(error);
    return exitStatusOf(error);
  }
  const { control, proxy, running } = made;
  return made.run(async () => {
    await proxy.start();
    if (declared.length === 0) {
      running.log(makeEvent('no-channels', 'no channels yet: add a file with one to the folder, then reload', {}));
    }
    if (socket !== null) await listenForControl(control, socket, running.log);
    if (configuration.metrics !== undefined) await listenForMetrics(control, configuration.metrics, running.log);
  });
}

/** Like `runProxy`, taking over from a process that hands over through the pipe `fd`. */
async function succeed(fd: number, start: ProcessStart): Promise<number> {
  // Some versions of Node install a handler only in a later turn, which is too late once everything is taken over in one.
  process.on('SIGHUP', () => undefined);
  nameProcess(process.argv.slice(2));
  keepHeapSmall();
  const [{ Proxy }, manager, { takeOver }, debugLog] = await Promise.all([
    import('../../lib/proxy/proxy.js'),
    import('../service/service-manager.js'),
    import('../upgrade/successor.js'),
    openDebugLog(process.env['DEBUG']),
  ]);
  const runtimeDirectory = process.env['XDG_RUNTIME_DIR'] ?? null;
  const service = takeServiceEnvironment(process.env, process.pid);
  let log: Log = () => undefined;
  const store = await openStore(service, (event) => log(event));
  const restored = await takeOver(fd, ({ configuration, proxy: state, ...document }, take) => {
    const output = makeOutput(configuration, debugLog);
    const lineBytes = (event: LogEvent) => output.lineBytes(event);
    const place = { isRoot: process.getuid?.() === 0, runtimeDirectory };
    const findRival = rivalFinder(place, () => made.control.paths);
    const proxy = new Proxy({ channels: [], restored: { state, take }, agent: describeAgent(), lineBytes, findRival });
    const made = new ProxyProcess({
      ...start,
      configuration,
      output,
      proxy,
      service,
      manager,
      store,
      runtimeDirectory,
    });
    log = made.running.log;
    Object.assign(machineHistory, document.machine);
    return { made, document, take };
  });
  // The restored state must neither read nor write: the predecessor continues.
  if (restored === null) return process.exit(EXIT_OK);
  const { made, document, take } = restored;
  return made.run(async () => {
    made.running.log(describeHandover(document));
    await Promise.all([made.proxy.goOn(), made.control.restore(document.listeners, take)]);
  });
}

/** Returns a finder of rivals, which loads its code on first use. `own` are the control sockets of this process. */
function rivalFinder(place: ControlPlace, own: () => readonly string[]): FindRival {
  return async (query) => (await import('./find-rival.js')).findRival({ ...place, own: own() }, query);
}

/** Opens the store that keeps listening sockets while the service restarts; null if the service manager has none. */
async function openStore(service: ServiceEnvironment, log: Log): Promise<ListenerStore | null> {
  const { notifySocket: socket, storeSize: size, storedDescriptors: inherited } = service;
  if (socket === null || size === 0) return null;
  const { StoredListeners } = await import('../service/stored-listeners.js');
  const store = await StoredListeners.open({ socket, size, inherited, log });
  useListenerStore(store);
  return store;
}

function makeOutput({ logFormat, logLevel, logDetails }: ProcessConfiguration, debugLog: DebugLog | null): Output {
  const output = new Output({ format: logFormat, level: logLevel, hasDetails: logDetails, hasTimes: true }, debugLog);
  exitOnDefect((error) => output.defect(error));
  return output;
}
