/** A group of channels: a folder of sockets. */

import { readGroupFolder } from '../../../lib/proxy/channel-group.js';
import { GroupPattern } from '../../../lib/proxy/group-pattern.js';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../finding.js';
import { lookAtPath } from '../look-at-path.js';
import type { Machine } from '../machine.js';
import { checkUnixSocket } from './unix-connect.js';

/** A group, by the address of its channel. `ownPid`: the vproxy that runs and has its channels, or null. */
export interface GroupSubject {
  readonly address: string;
  readonly ownPid: number | null;
}

/** So many sockets of a group are looked at. */
const MAX_MEMBERS = 32;

/** What is in the folder, and what is wrong with each socket in it. */
export async function checkGroup(machine: Machine, { address, ownPid }: GroupSubject): Promise<Finding[]> {
  const pattern = new GroupPattern(address);
  const look = await lookAtPath(machine, pattern.folder);
  if (look.problem !== null) return [look.problem];
  const shown = escapeText(pattern.path);
  if (look.stats === null) return [finding('group-empty', `the folder of ${shown} is not there yet`)];
  const { sockets, misnamed } = await readGroupFolder(pattern);
  const wrong = [...misnamed].slice(0, MAX_MEMBERS).map(([path, why]) => `${escapeText(path)} is left out: ${why}`);
  if (sockets.size === 0) return [finding('group-empty', [`no socket is like ${shown}`, ...wrong].join('; '))];
  const labels = [...sockets.keys()].sort().slice(0, MAX_MEMBERS);
  const found = await Promise.all(
    labels.map((label) => checkUnixSocket(machine, { path: pattern.pathOf(label), isExclusive: true, ownPid })),
  );
  return [
    finding('group-members', [`${sockets.size} like ${shown}: ${labels.join(', ')}`, ...wrong].join('; ')),
    ...found.flat(),
  ];
}
