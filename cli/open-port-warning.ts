/** A warning where a forward's port is open to others than who may think so. */
import type { Proxy } from '../lib/proxy/proxy.js';
import { hasOtherUsers } from '../lib/util/account.js';
import { isLoopback, parseHostPort } from '../lib/util/host-port.js';
import type { Log, LogEvent } from '../lib/util/log-event.js';

/** Who shares the machine. */
export interface Neighbours {
  /** The user that runs this process. */
  readonly userId: number;
  /** Default `/etc/passwd`. */
  readonly passwdFile?: string;
}

/** Warns once, of the first outgoing forward at a port of this machine, if people besides its user and root can log in. */
export function warnOfOpenPort(proxy: Proxy, { userId, passwdFile }: Neighbours, log: Log): void {
  const look = ({ event, fields }: LogEvent) => {
    const { endpoint, service } = fields;
    if (event !== 'listening' || typeof endpoint !== 'string' || !isLoopbackPort(endpoint)) return;
    proxy.off('log', look);
    if (!hasOtherUsers(userId, passwdFile)) return;
    const message = `every user of this machine can connect to ${endpoint}; a unix socket (-o ${String(service)}:/path) is its owner's alone`;
    log({ level: 'warn', event: 'open-port', message, fields: { endpoint } });
  };
  proxy.on('log', look);
}

function isLoopbackPort(endpoint: string): boolean {
  try {
    return isLoopback(parseHostPort(endpoint, 0).host);
  } catch {
    return false;
  }
}
