/** The run command, `vproxy -c CHANNEL …`, once its words are parsed: runs one side of channels until stopped. */

import { type Log, makeEvent } from '../../lib/events.js';
import { findObstacles, requireAccess } from '../../lib/proxy/channel/check-channel.js';
import type { ProxyOptions } from '../../lib/proxy/proxy-options.js';
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
import { decodeIdle } from '../upgrade/document.js';
import { takeHandoverDescriptor } from '../upgrade/starting.js';
import {
  chooseControlSocket,
  listenForControl,
  listenForHttpPorts,
  listenForMetrics,
  requireUnclaimed,
} from './control-socket.js';
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
    const text = formatConfiguration(configuration, flags.asJson ? 'json' : 'toml');
    await new Promise((resolve) => process.stdout.write(text, resolve));
    const [refusal] = (await findObstacles(configuration.channels)).values();
    if (refusal !== undefined) throw refusal;
    return EXIT_OK;
  }
  return runProxy(configuration, start);
}

/** Loads what a process is assembled from, whether it starts or takes over. */
async function loadParts(start: ProcessStart, log: Log) {
  nameProcess(process.argv.slice(2));
  keepHeapSmall();
  const service = takeServiceEnvironment(process.env, process.pid);
  const place = { isRoot: process.getuid?.() === 0, runtimeDirectory: process.env['XDG_RUNTIME_DIR'] ?? null };
  const store = await openStore(service, log);
  const { Proxy } = await import('../../lib/proxy/proxy.js');
  const manager = service.notifySocket === null ? null : await import('../service/service-manager.js');
  return { ...start, Proxy, place, service, manager, store };
}

/** Makes the process, not started. Throws what is wrong with its channels, or `cannot-create` for its audit log. */
function assemble(
  { Proxy, place, ...parts }: Awaited<ReturnType<typeof loadParts>>,
  configuration: ProcessConfiguration,
  output: Output,
  content: Pick<ProxyOptions, 'channels' | 'restored'>,
): ProxyProcess {
  const proxy = new Proxy({
    ...content,
    agent: describeAgent(),
    lineBytes: (event) => output.lineBytes(event),
    // Loaded on first use.
    findRival: async (query) =>
      (await import('./find-rival.js')).findRival({ ...place, own: made.control.paths }, query),
  });
  const made: ProxyProcess = new ProxyProcess({
    ...parts,
    configuration,
    output,
    proxy,
    runtimeDirectory: place.runtimeDirectory,
  });
  return made;
}

/** Runs a proxy until SIGINT, SIGTERM, the end of an inherited channel, or a permanent failure; resolves with the exit status. */
async function runProxy({ channels: declared, ...configuration }: Configuration, start: ProcessStart): Promise<number> {
  const output = makeOutput(configuration, await openDebugLog(process.env['DEBUG']));
  const parts = await loadParts(start, (event) => output.log(event));
  const { place, service } = parts;
  machineHistory.refusedOptions = service.refusedOptions;
  const socket = chooseControlSocket(configuration, place, process.pid, service.controlDescriptor);
  let made: ProxyProcess;
  try {
    if (socket !== null) await requireUnclaimed(socket);
    const channels = withRuntimeDirectory(declared, place.runtimeDirectory);
    for (const channel of channels) await requireAccess(channel);
    made = assemble(parts, configuration, output, { channels });
  } catch (error) {
    // Nothing has run yet: report it like a wrong argument.
    output.options = { ...output.options, hasTimes: false };
    output.failure(error);
    return exitStatusOf(error);
  }
  const { control, httpPorts, proxy, running } = made;
  return made.run(async () => {
    await proxy.start();
    if (declared.length === 0) {
      running.log(makeEvent('no-channels', 'no channels yet: add a file with one to the folder, then reload', {}));
    }
    if (socket !== null) await listenForControl(control, socket, running.log);
    if (configuration.metrics !== undefined) await listenForMetrics(control, configuration.metrics, running.log);
    if (configuration.httpPorts !== undefined)
      await listenForHttpPorts(httpPorts, configuration.httpPorts, running.log);
  });
}

/** Like `runProxy`, taking over from a process that hands over through the pipe `fd`. */
async function succeed(fd: number, start: ProcessStart): Promise<number> {
  // Some versions of Node install a handler only in a later turn, which is too late once everything is taken over in one.
  process.on('SIGHUP', () => undefined);
  let log: Log = () => undefined;
  const [parts, { takeOver }, debugLog] = await Promise.all([
    loadParts(start, (event) => log(event)),
    import('../upgrade/successor.js'),
    openDebugLog(process.env['DEBUG']),
  ]);
  const restored = await takeOver(fd, ({ configuration, proxy: state, idle, ...document }, take, checked) => {
    const legacy = { state, take, checked, idle: decodeIdle(idle) };
    const content = { channels: [], restored: legacy };
    const made = assemble(parts, configuration, makeOutput(configuration, debugLog), content);
    log = made.running.log;
    Object.assign(machineHistory, document.machine);
    return { made, document, legacy };
  });
  // The restored state must neither read nor write: the predecessor continues.
  if (restored === null) return process.exit(EXIT_OK);
  return restored.made.runOn(restored.document, restored.legacy);
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
