/** The path of a unix socket that vproxy makes. */
import { constants } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { isAnswered } from '../../../lib/system/listen.js';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../finding.js';
import { formatAccess, isAllowed, lookAtPath } from '../look-at-path.js';
import type { Machine } from '../machine.js';
import { formatHolders } from '../process-list.js';
import { describeKind } from './unix-connect.js';

/** A socket to be made. `isOurs`: a vproxy that runs has made it. */
export interface ListenPath {
  readonly path: string;
  readonly isOurs: boolean;
}

/** Whether it can be made, and who has it if somebody has. */
export async function checkUnixListen(machine: Machine, { path, isOurs }: ListenPath): Promise<Finding[]> {
  if (isOurs) return [];
  const look = await lookAtPath(machine, path);
  if (look.problem !== null) return [look.problem];
  const shown = escapeText(path);
  const folder = dirname(resolve(path));
  if (!isAllowed(folder, constants.W_OK | constants.X_OK)) {
    const folderLook = await lookAtPath(machine, folder);
    const access =
      folderLook.problem === null && folderLook.stats !== null ? ` (${formatAccess(folderLook.stats)})` : '';
    return [finding('folder-denied', `this user can make no socket in ${escapeText(folder)}${access}`)];
  }
  if (look.stats === null) return [finding('listen-free', `${shown} can be made`)];
  if (!look.stats.isSocket())
    return [finding('listen-file', `${shown} is ${describeKind(look.stats)}, and in the way`)];
  const listener = (await machine.sockets()).find((socket) => socket.path === path && socket.state === 'listening');
  // A name in the table says it without a connection; without one, its listener may be in another network namespace.
  if (listener === undefined && !(await isAnswered(path).catch(() => true))) {
    return [finding('listen-stale', `${shown} was left by a process that has ended`)];
  }
  const processes = await machine.processes();
  const holders = listener === undefined ? [] : processes.holdersOfSocket(listener.inode);
  return [finding('listen-taken', `${formatHolders(holders, processes.isPartial)} listens on ${shown}`)];
}
