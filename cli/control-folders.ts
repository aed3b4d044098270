/** The folders of control sockets on this machine. */
import { join } from 'node:path';
import { type ControlPlace, controlFolder, isControlSocketName } from '../lib/control/socket-paths.js';
import { listFolder } from '../lib/system/files/optional-files.js';

/** Returns the folder of this user's processes, and the others that it may read: all for root, root's for other users. */
export function controlFolders(place: ControlPlace): string[] {
  const own = controlFolder(place);
  const others = place.isRoot
    ? (listFolder(USERS) ?? []).map((user) => `${USERS}/${user}/vproxy`)
    : [controlFolder({ isRoot: true, runtimeDirectory: null }) ?? ''];
  return [...(own === null ? [] : [own]), ...others];
}

/** The folder of the users' `XDG_RUNTIME_DIR`, as created by systemd. */
const USERS = '/run/user';

/** Lists possible control sockets in a folder; none if it cannot be read. */
export function listControlSockets(folder: string): string[] {
  return (listFolder(folder) ?? [])
    .filter(isControlSocketName)
    .sort()
    .map((name) => join(folder, name));
}
