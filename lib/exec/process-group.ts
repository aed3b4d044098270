/** Signals for a process group. */
import { systemCode } from '../errors.js';

/** Signals every process of a group. False where none is left; one that this user may not signal is. */
export function signalGroup(groupId: number, name: NodeJS.Signals): boolean {
  return killGroup(groupId, name);
}

/** Whether a group has a process, also one that has ended and that nobody has waited for. */
export function isGroupAlive(groupId: number): boolean {
  return killGroup(groupId, 0);
}

function killGroup(groupId: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-groupId, signal);
    return true;
  } catch (error) {
    return systemCode(error) !== 'ESRCH';
  }
}
