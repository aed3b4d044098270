/** Where the vproxys of this machine have their control sockets, and what those that answer say. */
import { join } from 'node:path';
import { getValue } from '../lib/control/client/plain-http.js';
import { type ControlPlace, controlFolder, isControlSocketName } from '../lib/control/socket-paths.js';
import type { ControlStatus } from '../lib/status/types.js';
import { listFolder } from '../lib/system/files/optional-files.js';

/** The folders that this user's processes have, and those of others that it may look into: all of them for root, root's for others. */
export function controlFolders(place: ControlPlace): string[] {
  const own = controlFolder(place);
  const others = place.isRoot
    ? (listFolder(USERS) ?? []).map((user) => `${USERS}/${user}/vproxy`)
    : [controlFolder({ isRoot: true, runtimeDirectory: null }) ?? ''];
  return [...(own === null ? [] : [own]), ...others];
}

/** The folder of the users' `XDG_RUNTIME_DIR`, as systemd makes them. */
const USERS = '/run/user';

/** The paths of what may be control sockets in a folder; none where it cannot be read. */
export function listControlSockets(folder: string): string[] {
  return (listFolder(folder) ?? [])
    .filter(isControlSocketName)
    .sort()
    .map((name) => join(folder, name));
}

/** A process that has not answered by then is taken for none, in milliseconds. */
const ANSWER_MS = 2000;

/** What the vproxy on a control socket says of itself; null where none answers within `answerMs`. */
export async function askStatus(path: string, answerMs = ANSWER_MS): Promise<ControlStatus | null> {
  try {
    const status = await getValue<Partial<ControlStatus>>(path, '/v1/status', AbortSignal.timeout(answerMs));
    return typeof status.process?.pid === 'number' ? (status as ControlStatus) : null;
  } catch {
    return null;
  }
}
