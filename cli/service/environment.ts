/** Environment variables of the service manager: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3). */

import { escapeText } from '../../lib/util/escape.js';
import { badArgument } from '../command/arguments.js';

/** What the service manager asks for and passes. */
export interface ServiceEnvironment {
  /** The address of the notification socket; null without one. */
  readonly notifySocket: string | null;
  /** The silence after which the process counts as hung, in milliseconds; null: never. */
  readonly watchdogMs: number | null;
  /** Maximum number of sockets that it keeps for the next process. */
  readonly storeSize: number;
  /** The descriptor of a listening control socket; null if none was passed. */
  readonly controlDescriptor: number | null;
  /** Descriptors that an earlier process stored, by name. */
  readonly storedDescriptors: ReadonlyMap<string, number>;
  /** What is in effect instead of the unit's options, if these were refused; otherwise null. */
  readonly refusedOptions: 'last' | 'none' | null;
}

const VARIABLES = [
  'NOTIFY_SOCKET',
  'WATCHDOG_USEC',
  'WATCHDOG_PID',
  'FDSTORE',
  'LISTEN_FDS',
  'LISTEN_PID',
  'LISTEN_FDNAMES',
  'VPROXY_OPTIONS_REFUSED',
] as const;

const FIRST_DESCRIPTOR = 3;

export const STORED_NAME_START = 'listener-';

/** The name of the control socket (`FileDescriptorName=`) among several. */
const CONTROL_NAME = 'control';

/**
 * Reads the variables meant for the process `pid`, and removes them from `environment`, so that programs that vproxy runs do not
 * inherit them. Throws `bad-argument` if none of several descriptors is for vproxy.
 */
export function takeServiceEnvironment(environment: NodeJS.ProcessEnv, pid: number): ServiceEnvironment {
  const refused = environment['VPROXY_OPTIONS_REFUSED'];
  const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID, FDSTORE, LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES } = environment;
  for (const name of VARIABLES) Reflect.deleteProperty(environment, name);
  const isWatched = WATCHDOG_PID === undefined || Number(WATCHDOG_PID) === pid;
  const watchdogMs = isWatched ? Math.floor(Number(WATCHDOG_USEC ?? 0) / 1000) : 0;
  const count = Number(LISTEN_PID) === pid ? Number(LISTEN_FDS) : 0;
  return {
    notifySocket: NOTIFY_SOCKET || null,
    watchdogMs: watchdogMs > 0 ? watchdogMs : null,
    storeSize: Number(FDSTORE ?? 0) || 0,
    refusedOptions: refused === 'last' || refused === 'none' ? refused : null,
    ...sortDescriptors(count > 0 ? count : 0, LISTEN_FDNAMES ?? ''),
  };
}

function sortDescriptors(count: number, names: string) {
  const named = names.split(':').slice(0, count);
  const stored = named.flatMap((name, index) =>
    name.startsWith(STORED_NAME_START) ? [[name, FIRST_DESCRIPTOR + index] as const] : [],
  );
  const others = Array.from({ length: count }, (_, index) => index).filter(
    (index) => named[index]?.startsWith(STORED_NAME_START) !== true,
  );
  return { controlDescriptor: findControl(others, named), storedDescriptors: new Map(stored) };
}

/** Finds it among the descriptors at `indices` of the list of names. */
function findControl(indices: readonly number[], names: readonly string[]): number | null {
  const [only] = indices;
  if (only === undefined) return null;
  const index = indices.length === 1 ? only : names.indexOf(CONTROL_NAME);
  if (index >= 0) return FIRST_DESCRIPTOR + index;
  const seen = escapeText(indices.map((place) => names[place] ?? '').join(':'), 200);
  const message = `LISTEN_FDNAMES: none of ${indices.length} descriptors is named ${CONTROL_NAME}: ${seen}`;
  throw badArgument(message);
}

/** Returns the service manager's variables for the successor, as this process removed them from its own environment. */
export function successorEnvironment({
  notifySocket,
  watchdogMs,
  storeSize,
}: Pick<ServiceEnvironment, 'notifySocket' | 'watchdogMs' | 'storeSize'>): Record<string, string> {
  return {
    ...(notifySocket === null ? {} : { NOTIFY_SOCKET: notifySocket }),
    // Without WATCHDOG_PID it is for any process: the PID of the successor is not known before it runs.
    ...(watchdogMs === null ? {} : { WATCHDOG_USEC: String(watchdogMs * 1000) }),
    ...(storeSize === 0 ? {} : { FDSTORE: String(storeSize) }),
  };
}
