/** What the channels of other processes lead to. */
import { parseChannel, placeOf } from '../lib/channel/address/address.js';
import { folderOf } from '../lib/system/proc/proc.js';

/**
 * The place (`placeOf`) of a channel of the process `pid`, by its canonical address; null where it has none, or is of a form that
 * this version does not know. A relative path is one in the working folder of that process, as far as this user may see it.
 */
export function placeOfRunning(pid: number, address: string, proc = '/proc'): string | null {
  try {
    const channel = parseChannel(address);
    return placeOf(channel, folderOf(proc, pid) ?? process.cwd());
  } catch {
    return null;
  }
}
