/** Where the vproxys of this machine have their control sockets. */
import { join } from 'node:path';
import { type ControlPlace, controlFolder, isControlSocketName } from '../lib/control/socket-paths.js';
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
