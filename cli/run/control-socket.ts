/** Which control socket a process has, and what happens where it cannot be made. */

import { lstatSync, unlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ControlServer } from '../../lib/control/server/control-server.js';
import { type ControlPlace, controlSocketPath, isControlName } from '../../lib/control/socket-paths.js';
import { systemCode, toVproxyError, VproxyError } from '../../lib/errors.js';
import { type Log, makeEvent } from '../../lib/events.js';
import type { Configuration } from '../../lib/settings/configuration.js';
import { listFolder } from '../../lib/system/files/optional-files.js';
import { isKept } from '../../lib/system/sockets/listener-store.js';
import { isAnswered, isSameFile } from '../../lib/system/sockets/listening.js';
import { formatHostPort, type HostPort } from '../../lib/util/addresses.js';
import { escapeText } from '../../lib/util/escape.js';

/** A socket to make. */
interface ControlSocket {
  /** Null where the process has no folder for it. */
  readonly path: string | null;
  /** The argument that asks for it; null where nobody did. */
  readonly askedBy: string | null;
  /** Whether its path was given, so that nothing but this path will do. */
  readonly isExplicit: boolean;
  /** The descriptor of one that is listened on already, by systemd. Default: none. */
  readonly descriptor?: number;
}

/**
 * The socket of a process, or null where it is to have none. `descriptor` is that of a socket that systemd has handed over, or
 * null; it goes before all others. A name that is no file name has the one of the number `pid`.
 */
export function chooseControlSocket(
  { control, name }: Pick<Configuration, 'control' | 'name'>,
  place: ControlPlace,
  pid: number,
  descriptor: number | null = null,
): ControlSocket | null {
  if (control === false) return null;
  if (descriptor !== null) return { path: null, askedBy: null, isExplicit: true, descriptor };
  if (control !== undefined) return { path: control, askedBy: `--control ${escapeText(control)}`, isExplicit: true };
  const isNamed = name !== undefined && isControlName(name);
  const path = controlSocketPath(isNamed ? name : String(pid), place);
  return { path, askedBy: isNamed ? `--name ${name}` : null, isExplicit: false };
}

/** Makes sure that no other process has what was asked for by a name or a path. Rejects with `address-in-use`. */
export async function requireUnclaimed({ path, askedBy }: ControlSocket): Promise<void> {
  if (path === null || askedBy === null || isKept({ path })) return;
  // What else is wrong with the path shows when it is listened on.
  if (await isAnswered(path).catch(() => false)) throw claimed(path, askedBy);
}

/** Listens, and removes what processes that were killed have left in the folder that is made for such sockets. Rejects where the path was given, or is another one's by now; else what fails is a warning. */
export async function listenForControl(server: ControlServer, socket: ControlSocket, log: Log): Promise<void> {
  const { path, askedBy, isExplicit, descriptor } = socket;
  if (descriptor !== undefined) {
    await server.listen({ fd: descriptor });
    const message = `taking control requests at the socket that systemd has handed over (descriptor ${descriptor})`;
    log(makeEvent('control-listening', message, { descriptor }));
    return;
  }
  if (path === null) {
    const message = 'no control socket: XDG_RUNTIME_DIR is not set; --control PATH makes one elsewhere';
    log(makeEvent('control-off', message, {}, 'info'));
    return;
  }
  if (!isExplicit) await removeStaleSockets(dirname(path));
  try {
    await server.listen({ path });
  } catch (error) {
    const { code, message } = toVproxyError(error);
    if (isExplicit) throw error;
    if (askedBy !== null && (await isAnswered(path).catch(() => false))) throw claimed(path, askedBy);
    log(makeEvent('control-off', `no control socket: ${message}`, { code }, 'warn'));
    return;
  }
  const message = `taking control requests at ${escapeText(path)}`;
  log(makeEvent('control-listening', message, { path }));
}

/** Serves metrics by TCP. Rejects with `address-…` codes. */
export async function listenForMetrics(server: ControlServer, address: HostPort, log: Log): Promise<void> {
  const endpoint = formatHostPort(await server.listenForMetrics(address));
  const message = `serving metrics at http://${endpoint}/metrics`;
  log(makeEvent('metrics-listening', message, { endpoint }));
}

function claimed(path: string, askedBy: string): VproxyError {
  return new VproxyError('address-in-use', `${askedBy}: another vproxy has it: ${escapeText(path)} answers`);
}

/** The socket of a process that has no name. */
const NUMBERED = /^([1-9]\d{0,9})\.sock$/;

/**
 * Removes those sockets in `folder` that are called by the number of a process that is not there, and on which nobody
 * answers: a process of another container may share the folder, not the numbers. What cannot be removed stays.
 */
export async function removeStaleSockets(folder: string): Promise<void> {
  for (const name of listFolder(folder) ?? []) {
    const pid = Number(NUMBERED.exec(name)?.[1]);
    if (Number.isNaN(pid) || isThere(pid)) continue;
    const path = join(folder, name);
    try {
      const found = lstatSync(path);
      if (!found.isSocket() || (await isAnswered(path))) continue;
      // Another process may have got the number, and have made its own, while we asked.
      if (!isThere(pid) && isSameFile(lstatSync(path), found)) unlinkSync(path);
    } catch {
      // It is not ours, or has gone.
    }
  }
}

/** Whether there is a process of this number, of any user. */
function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return systemCode(error) !== 'ESRCH';
  }
}
