/** The address of a channel of another process. */
import { type ChannelAddress, parseChannel } from '../lib/channel/address/address.js';

/** Parses the canonical address of a running channel; null if it has a form unknown to this version. */
export function addressOfRunning(text: string): ChannelAddress | null {
  try {
    return parseChannel(text);
  } catch {
    return null;
  }
}
