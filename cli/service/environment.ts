/** What the environment says of the service manager that started this process: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3). */

import { escapeText } from '../../lib/util/escape.js';
import { badArgument } from '../command/arguments.js';

/** What a service manager has asked for, and handed over. */
export interface ServiceEnvironment {
  /** The address of the socket for notifications; null where nobody wants any. */
  readonly notifySocket: string | null;
  /** The silence after which the process is taken for dead, in milliseconds; null: never. */
  readonly watchdogMs: number | null;
  /** The number of sockets that it keeps for the next process. */
  readonly storeSize: number;
  /** The descriptor of the listening socket for control requests; null where none was handed over. */
  readonly controlDescriptor: number | null;
  /** Those that a process before has stored, by name. */
  readonly storedDescriptors: ReadonlyMap<string, number>;
}

const VARIABLES = [
  'NOTIFY_SOCKET',
  'WATCHDOG_USEC',
  'WATCHDOG_PID',
  'FDSTORE',
  'LISTEN_FDS',
  'LISTEN_PID',
  'LISTEN_FDNAMES',
] as const;

const FIRST_DESCRIPTOR = 3;

/** What the names of stored sockets begin with. */
export const STORED_NAME_START = 'listener-';

/** The name of the descriptor (`FileDescriptorName=`) where there are several. */
const CONTROL_NAME = 'control';

/**
 * Reads what is said to the process of the number `pid`, and takes it out of `environment`, so that the programs which
 * vproxy runs are not told what is not theirs. Throws `bad-argument` for descriptors of which none is for vproxy.
 */
export function takeServiceEnvironment(environment: NodeJS.ProcessEnv, pid: number): ServiceEnvironment {
  const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID, FDSTORE, LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES } = environment;
  for (const name of VARIABLES) Reflect.deleteProperty(environment, name);
  const isWatched = WATCHDOG_PID === undefined || Number(WATCHDOG_PID) === pid;
  const watchdogMs = isWatched ? Math.floor(Number(WATCHDOG_USEC ?? 0) / 1000) : 0;
  const count = Number(LISTEN_PID) === pid ? Number(LISTEN_FDS) : 0;
  return {
    notifySocket: NOTIFY_SOCKET || null,
    watchdogMs: watchdogMs > 0 ? watchdogMs : null,
    storeSize: Number(FDSTORE ?? 0) || 0,
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

/** That of the places `indices` in the list of names. */
function findControl(indices: readonly number[], names: readonly string[]): number | null {
  const [only] = indices;
  if (only === undefined) return null;
  const index = indices.length === 1 ? only : names.indexOf(CONTROL_NAME);
  if (index >= 0) return FIRST_DESCRIPTOR + index;
  const seen = escapeText(indices.map((place) => names[place] ?? '').join(':'), 200);
  const message = `LISTEN_FDNAMES: none of ${indices.length} descriptors is called ${CONTROL_NAME}: ${seen}`;
  throw badArgument(message);
}

/** What the successor of this process is to have in its environment: the words of the service manager, which this process has taken out of its own. */
export function successorEnvironment({
  notifySocket,
  watchdogMs,
  storeSize,
}: Pick<ServiceEnvironment, 'notifySocket' | 'watchdogMs' | 'storeSize'>): Record<string, string> {
  return {
    ...(notifySocket === null ? {} : { NOTIFY_SOCKET: notifySocket }),
    // Without WATCHDOG_PID it is for whoever has it: the number of the successor is not known before it runs.
    ...(watchdogMs === null ? {} : { WATCHDOG_USEC: String(watchdogMs * 1000) }),
    ...(storeSize === 0 ? {} : { FDSTORE: String(storeSize) }),
  };
}
