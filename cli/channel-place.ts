/** The place of a channel of another process. */
import { parseChannel, placeOf } from '../lib/channel/address/address.js';

/**
 * Returns the place (`placeOf`) of a channel of a running process, by its canonical address; null if it has none, or a form
 * unknown to this version.
 */
export function placeOfRunning(address: string): string | null {
  try {
    return placeOf(parseChannel(address));
  } catch {
    return null;
  }
}
