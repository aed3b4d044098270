/** A unix socket to connect to: a listening chardev of QEMU, a target, or the members of a group. */

import { realpathSync } from 'node:fs';
import net from 'node:net';
import { basename } from 'node:path';
import type { ChannelAddress } from '../../../lib/channel/address/address.js';
import type { LocationOf } from '../../../lib/channel/kind.js';
import { readGroupFolder } from '../../../lib/proxy/groups/channel-group.js';
import { GroupPattern } from '../../../lib/proxy/groups/group-pattern.js';
import type { ListedSocket } from '../../../lib/system/proc/proc-net.js';
import { isAnswered } from '../../../lib/system/sockets/listening.js';
import { describeError, escapeText } from '../../../lib/util/escape.js';
import { orElse } from '../../../lib/util/or-else.js';
import { type Finding, failure, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import { lookAtPath, whyUnusable } from '../path.js';
import { formatHolder, formatHolders, type Holder, heldOpen, type ProcessList } from '../process-list.js';
import { readGreeting } from './greeting.js';

/** Checks which process listens, and which are connected besides `ownPid`. Connects only if /proc does not show it. */
export async function checkUnixSocket(
  machine: Machine,
  { path, servesOne }: Pick<LocationOf<'unix-socket'>, 'path' | 'servesOne'>,
  ownPid: number | null,
): Promise<Finding[]> {
  const obstacle = await whyUnusable(machine, path, { subject: 'unix-socket', kind: 'a socket' });
  if (obstacle !== null && obstacle.id !== 'channel-denied') return [obstacle];
  const denied = obstacle === null ? [] : [obstacle];
  const listener = await machine.listenerAt((socket) => isAt(socket, path));
  if (listener === null) return denied.length > 0 ? denied : [await askWhoAnswers(path, servesOne)];
  const { holders, who } = listener;
  return [
    ...denied,
    finding('socket-listens', `${who} listens on ${escapeText(path)}`),
    ...stopped(holders),
    ...(servesOne && !holders.some(servesMany) ? await findOthers(machine, path, holders, ownPid) : []),
  ];
}

/** vproxy replaces its client by a newcomer, whereas QEMU leaves it waiting. Newer versions of Node are named MainThread. */
const servesMany = ({ program }: Holder): boolean => /^(vproxy|node|MainThread)/.test(program);

/** Also true if it was bound by another name of the same file. */
function isAt(socket: ListedSocket, path: string): boolean {
  if (socket.path === null) return false;
  if (socket.path === path) return true;
  return basename(socket.path) === basename(path) && realPath(socket.path) === realPath(path);
}

const realPath = (path: string): string => orElse(path, () => realpathSync(path));

/** Connects to find out: the listener may be in another network namespace, whose sockets are not listed here. */
async function askWhoAnswers(path: string, isChannel: boolean): Promise<Finding> {
  const shown = escapeText(path);
  try {
    if (!(await isAnswered(path))) {
      return failure('unix-socket', 'channel-refused', `nothing listens on the socket ${shown}`);
    }
    const stranger = isChannel ? await greetingAt(path) : null;
    if (stranger !== null) return finding('not-vproxy', `${shown} is not answered by a vproxy: ${stranger}`);
    return finding(
      'socket-answered',
      `${shown} answers (connected for a moment), but its listener is not visible from here`,
    );
  } catch (error) {
    return failure('unix-socket', 'channel-unusable', `cannot connect to ${shown}: ${describeError(error)}`);
  }
}

async function greetingAt(path: string): Promise<string | null> {
  const socket = net.connect(path);
  try {
    return await readGreeting(socket);
  } finally {
    socket.destroy();
  }
}

function stopped(holders: readonly Holder[]): Finding[] {
  return holders
    .filter(({ isStopped }) => isStopped)
    .map((holder) => finding('process-stopped', `${formatHolder(holder)} is stopped`, { PID: String(holder.pid) }));
}

/** Finds other clients of a listener that serves one at a time, connected or waiting. */
async function findOthers(
  machine: Machine,
  path: string,
  listeners: readonly Holder[],
  ownPid: number | null,
): Promise<Finding[]> {
  const processes = await machine.processes();
  const sockets = (await machine.sockets()).filter((socket) => isAt(socket, path));
  const clients = await Promise.all(
    sockets.filter(({ state }) => state === 'connected').map(({ inode }) => clientsOf(machine, processes, inode)),
  );
  // A client that cannot be seen may well be the vproxy that has the channel.
  const others = clients.filter(
    (holders) => !holders.some(({ pid }) => pid === ownPid) && (ownPid === null || holders.length > 0),
  );
  const queued = sockets.filter(({ state }) => state === 'queued').length;
  const waiting = `${queued} ${queued === 1 ? 'connection waits' : 'connections wait'} to be accepted`;
  return [
    ...others.map((holders) => {
      const who = holders.length === 0 ? 'another process (see ss -xp)' : formatHolders(holders, processes.isPartial);
      const message = `${who} is already connected to ${formatHolders(listeners, processes.isPartial)}`;
      return heldOpen(message, holders);
    }),
    ...(queued === 0 ? [] : [finding('socket-queue', waiting)]),
  ];
}

/** The processes at the other end of a connected socket. */
async function clientsOf(machine: Machine, processes: ProcessList, inode: string): Promise<Holder[]> {
  const peer = await machine.unixPeerOf(inode);
  return peer === null ? [] : processes.holdersOfSocket(peer);
}

/** Maximum number of sockets of a group to check. */
const MAX_MEMBERS = 32;

/** Checks the folder of the group with this channel address, and each socket in it. */
export async function checkGroup(machine: Machine, address: ChannelAddress, ownPid: number | null): Promise<Finding[]> {
  const pattern = new GroupPattern(address);
  const look = await lookAtPath(machine, pattern.folder);
  if (look.problem !== null) return [look.problem];
  const shown = escapeText(pattern.path);
  if (look.stats === null) return [finding('group-empty', `the folder of ${shown} does not exist yet`)];
  const { sockets, skipped } = await readGroupFolder(pattern);
  const wrong = [...skipped].slice(0, MAX_MEMBERS).map(([path, why]) => `${escapeText(path)} is skipped: ${why}`);
  if (sockets.size === 0) return [finding('group-empty', [`no socket matches ${shown}`, ...wrong].join('; '))];
  const labels = [...sockets.keys()].sort().slice(0, MAX_MEMBERS);
  const found = await Promise.all(
    labels.map((label) => checkUnixSocket(machine, { path: pattern.pathOf(label), servesOne: true }, ownPid)),
  );
  return [
    finding('group-members', [`${sockets.size} matching ${shown}: ${labels.join(', ')}`, ...wrong].join('; ')),
    ...found.flat(),
  ];
}
