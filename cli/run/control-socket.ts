/** Chooses and opens the control socket of a process. */

import { lstatSync, unlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ControlServer } from '../../lib/control/server/control-server.js';
import { type ControlPlace, controlSocketPath, isControlName } from '../../lib/control/socket-paths.js';
import { toVproxyError, VproxyError } from '../../lib/errors.js';
import { type Log, makeEvent } from '../../lib/events.js';
import type { SocketFile } from '../../lib/forward/forms/socket-form.js';
import type { HttpPorts } from '../../lib/proxy/ports/http-ports.js';
import type { Configuration } from '../../lib/settings/configuration.js';
import { listFolder } from '../../lib/system/files/optional-files.js';
import { processExists } from '../../lib/system/proc/proc.js';
import { resolveAddress } from '../../lib/system/sockets/listen-address.js';
import { isKept } from '../../lib/system/sockets/listener-store.js';
import { isAnswered, isSameFile } from '../../lib/system/sockets/listening.js';
import { formatHostPort, type HostPort } from '../../lib/util/addresses/host-port.js';
import { escapeText } from '../../lib/util/escape.js';

/** A socket to create. */
interface ControlSocket extends Partial<Pick<SocketFile, 'access'>> {
  /** Null if the process has no folder for it. */
  readonly path: string | null;
  /** The argument that asks for it; null if it is the default. */
  readonly askedBy: string | null;
  /** Whether its path was given, so that failing to use it is an error. */
  readonly isExplicit: boolean;
  /** The descriptor of a listening socket from systemd. Default: none. */
  readonly descriptor?: number;
}

/**
 * Returns the socket of a process, or null if it is to have none. `descriptor` is that of a socket passed by systemd, which takes
 * precedence, or null. Without a name that can be a file name, the socket is named after `pid`.
 */
export function chooseControlSocket(
  { control, name }: Pick<Configuration, 'control' | 'name'>,
  place: ControlPlace,
  pid: number,
  descriptor: number | null = null,
): ControlSocket | null {
  if (control === false) return null;
  if (descriptor !== null) return { path: null, askedBy: null, isExplicit: true, descriptor };
  if (control !== undefined) return { ...control, askedBy: `--control ${escapeText(control.path)}`, isExplicit: true };
  const isNamed = name !== undefined && isControlName(name);
  const path = controlSocketPath(isNamed ? name : String(pid), place);
  return { path, askedBy: isNamed ? `--name ${name}` : null, isExplicit: false };
}

/** Makes sure that no other process has the requested name or path. Rejects with `address-in-use`. */
export async function requireUnclaimed({ path, askedBy }: ControlSocket): Promise<void> {
  if (path === null || askedBy === null || isKept({ path })) return;
  // Other problems with the path show when listening on it.
  if (await isAnswered(path).catch(() => false)) throw claimed(askedBy);
}

/**
 * Listens, and removes stale sockets from the default folder. Rejects if the path was given, or is in use by now; any other
 * failure is a warning.
 */
export async function listenForControl(server: ControlServer, socket: ControlSocket, log: Log): Promise<void> {
  const { path, access, askedBy, isExplicit, descriptor } = socket;
  if (descriptor !== undefined) {
    await server.listen({ fd: descriptor });
    const message = `listening on the socket passed by systemd (descriptor ${descriptor}) for control requests`;
    log(makeEvent('control-listening', message, { descriptor }));
    return;
  }
  if (path === null) {
    const message = 'no control socket: XDG_RUNTIME_DIR is not set; use --control PATH';
    log(makeEvent('control-off', message, {}, 'info'));
    return;
  }
  if (!isExplicit) await removeStaleSockets(dirname(path));
  try {
    await server.listen(await resolveAddress({ path, access }));
  } catch (error) {
    const { code, message } = toVproxyError(error);
    if (isExplicit) throw error;
    if (askedBy !== null && (await isAnswered(path).catch(() => false))) throw claimed(askedBy);
    log(makeEvent('control-off', `no control socket: ${message}`, { code }, 'warn'));
    return;
  }
  const message = `listening on ${escapeText(path)} for control requests`;
  log(makeEvent('control-listening', message, { path }));
}

/** Serves metrics over TCP. Rejects with `address-…` codes. */
export async function listenForMetrics(server: ControlServer, address: HostPort, log: Log): Promise<void> {
  const endpoint = formatHostPort(await server.listenForMetrics(address));
  const message = `serving metrics at http://${endpoint}/metrics`;
  log(makeEvent('metrics-listening', message, { endpoint }));
}

/** Serves the ports of all peers by name. Rejects with `address-…` codes. */
export async function listenForHttpPorts(ports: HttpPorts, address: HostPort, log: Log): Promise<void> {
  const endpoint = formatHostPort(await ports.listen(address));
  const url = ports.urlOf('LABEL', 'PORT');
  log(makeEvent('http-ports-listening', `serving the ports of peers on ${endpoint}, as ${url}`, { endpoint }));
}

function claimed(askedBy: string): VproxyError {
  return new VproxyError('address-in-use', `${askedBy}: already in use by another vproxy`);
}

/** The socket of an unnamed process. */
const NUMBERED = /^([1-9]\d{0,9})\.sock$/;

/**
 * Removes the sockets in `folder` that are named after a PID that does not exist and that do not answer: a process of another
 * container may share the folder, but not the PIDs. A socket that cannot be removed stays.
 */
export async function removeStaleSockets(folder: string): Promise<void> {
  for (const name of listFolder(folder) ?? []) {
    const pid = Number(NUMBERED.exec(name)?.[1]);
    if (Number.isNaN(pid) || processExists(pid)) continue;
    const path = join(folder, name);
    try {
      const found = lstatSync(path);
      if (!found.isSocket() || (await isAnswered(path))) continue;
      // Meanwhile another process may have got the PID, and created its own socket.
      if (!processExists(pid) && isSameFile(lstatSync(path), found)) unlinkSync(path);
    } catch {
      // It is not ours, or was removed.
    }
  }
}
