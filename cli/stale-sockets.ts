/** Control sockets of processes that were killed, which could not remove them. */
import { lstatSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { systemCode } from '../lib/errors.js';
import { isAnswered, isSameFile } from '../lib/util/listen.js';
import { listFolder } from './list-folder.js';

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

/** Whether there is a process of this number, whoever it belongs to. */
function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return systemCode(error) !== 'ESRCH';
  }
}
