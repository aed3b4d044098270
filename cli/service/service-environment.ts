/** What the environment says of the service manager that started this process: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3). */
import { VproxyError } from '../../lib/errors.js';
import { escapeText } from '../../lib/util/escape.js';

/** What a service manager has asked for, and handed over. */
export interface ServiceEnvironment {
  /** The address of the socket for notifications; null where nobody wants any. */
  readonly notifySocket: string | null;
  /** Without a sign of life for so long the process is taken for dead, in milliseconds; null: never. */
  readonly watchdogMs: number | null;
  /** The descriptor of the listening socket for control requests; null where none was handed over. */
  readonly controlDescriptor: number | null;
}

const FIRST_DESCRIPTOR = 3;

/** The name of the descriptor (`FileDescriptorName=`) where there are several. */
const CONTROL_NAME = 'control';

/**
 * Reads what is said to the process of the number `pid`, and takes it out of `environment`, so that the programs which
 * vproxy runs are not told what is not theirs. Throws `bad-argument` for descriptors of which none is for vproxy.
 */
export function takeServiceEnvironment(environment: NodeJS.ProcessEnv, pid: number): ServiceEnvironment {
  const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID, LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES } = environment;
  for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID', 'LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES']) {
    Reflect.deleteProperty(environment, name);
  }
  const isWatched = WATCHDOG_PID === undefined || Number(WATCHDOG_PID) === pid;
  const watchdogMs = isWatched ? Math.floor(Number(WATCHDOG_USEC ?? 0) / 1000) : 0;
  const descriptorCount = Number(LISTEN_PID) === pid ? Number(LISTEN_FDS) : 0;
  return {
    notifySocket: NOTIFY_SOCKET || null,
    watchdogMs: watchdogMs > 0 ? watchdogMs : null,
    controlDescriptor: descriptorCount > 0 ? findControl(descriptorCount, LISTEN_FDNAMES ?? '') : null,
  };
}

function findControl(count: number, names: string): number {
  const index = names.split(':').indexOf(CONTROL_NAME);
  if (index >= 0 && index < count) return FIRST_DESCRIPTOR + index;
  if (count === 1) return FIRST_DESCRIPTOR;
  const message = `LISTEN_FDNAMES: none of ${count} descriptors is called ${CONTROL_NAME}: ${escapeText(names, 200)}`;
  throw new VproxyError('bad-argument', message);
}
