/** The places of channels of other processes. */
import { parseChannel, placeOf } from '../lib/channel/address/address.js';
import { folderOf } from '../lib/system/proc/proc.js';

/**
 * Returns the place (`placeOf`) of a channel of the process `pid`, by its canonical address; null if it has none, or a form
 * unknown to this version. A relative path is resolved in the working folder of that process, if this user may see it.
 */
export function placeOfRunning(pid: number, address: string, proc = '/proc'): string | null {
  try {
    const channel = parseChannel(address);
    return placeOf(channel, folderOf(proc, pid) ?? process.cwd());
  } catch {
    return null;
  }
}
