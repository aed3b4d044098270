/** The address of a channel of another process. */

import { type ChannelAddress, parseChannel } from '../lib/channel/address/address.js';
import { orElse } from '../lib/util/or-else.js';

/** Parses the canonical address of a running channel; null if it has a form unknown to this version. */
export const addressOfRunning = (text: string): ChannelAddress | null => orElse(null, () => parseChannel(text));
