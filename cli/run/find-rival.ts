/** Finds the other local process that has a channel: by control sockets, or for a device by /proc. */
import { type ChannelAddress, parseChannel, placeOf } from '../../lib/channel/address/address.js';
import { askStatus } from '../../lib/control/client/plain-http.js';
import type { ControlPlace } from '../../lib/control/socket-paths.js';
import type { Rival, RivalQuery } from '../../lib/proxy/channel/rival.js';
import type { ControlStatus } from '../../lib/status/types.js';
import { findOpener, isOpenIn, processExists, programOf } from '../../lib/system/proc/proc.js';
import { orElse } from '../../lib/util/or-else.js';
import { controlFolders, listControlSockets } from '../control-folders.js';

const MAX_SOCKETS = 256;

interface RivalPlace extends ControlPlace {
  /** The control sockets of this process, to skip: until queried, it has not even loaded the code that answers. Default: none. */
  readonly own?: readonly string[];
  /** A process that does not answer within this time is ignored, in milliseconds. Default 3000: on a busy machine answers are slow. */
  readonly answerMs?: number;
}

/** Queries the processes whose control sockets are visible from this place. */
export async function findRival(
  { own = [], answerMs = 3000, ...controlPlace }: RivalPlace,
  { channel, device }: RivalQuery,
): Promise<Rival | null> {
  if (device !== null) return findHolder(device);
  const place = placeOf(channel);
  if (place === null) return null;
  const sockets = controlFolders(controlPlace).flatMap(listControlSockets);
  return findSession(place, sockets.filter((path) => !own.includes(path)).slice(0, MAX_SOCKETS), answerMs);
}

async function findHolder(device: string): Promise<Rival | null> {
  const pid = await findOpener(device);
  if (pid === null) return null;
  const name = programOf('/proc', pid) || 'exiting';
  return { pid, name, hasLeft: async () => !(await isOpenIn(pid, device)) };
}

/** Finds the first process that reports a session on the channel of this place. */
async function findSession(place: string, sockets: readonly string[], answerMs: number): Promise<Rival | null> {
  const asked = sockets.map(async (socket) => {
    const status = await askStatus(socket, answerMs);
    if (status !== null && status.process.pid !== process.pid && hasSession(status, place, false))
      return { socket, status };
    throw new Error('no session');
  });
  const found = await Promise.any(asked).catch(() => null);
  if (found === null) return null;
  const { socket, status } = found;
  const { pid, name } = status.process;
  return {
    pid,
    name: name ?? 'vproxy',
    async hasLeft() {
      const now = await askStatus(socket, answerMs);
      return now === null ? !processExists(pid) : now.process.pid !== pid || !hasSession(now, place, true);
    },
  };
}

/** Whether a session is on the channel. A suspended one has lost it, but who yielded lets it resume. */
function hasSession({ channels }: ControlStatus, place: string, orSuspended: boolean): boolean {
  return channels.some(({ session, address, state }) => {
    const isOn = session !== null && (orSuspended || state !== 'suspended');
    const own = isOn ? addressOfRunning(address) : null;
    return own !== null && placeOf(own) === place;
  });
}

/** Parses the canonical address of a channel of another process; null if it has a form unknown to this version. */
export const addressOfRunning = (text: string): ChannelAddress | null => orElse(null, () => parseChannel(text));
