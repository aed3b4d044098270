/** A channel: its location, by kind, and whether its options are accepted. */
import type { ChannelAddress } from '../../../lib/channel/address/address.js';
import type { VproxyError } from '../../../lib/errors.js';
import { isGroup } from '../../../lib/proxy/groups/group-pattern.js';
import type { Configuration } from '../../../lib/settings/configuration.js';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, failure, failureOf, finding } from '../findings.js';
import { notChecked } from '../jobs.js';
import { checkLocation } from '../locations/location.js';
import { checkGroup } from '../locations/unix-socket.js';
import type { Machine } from '../machine.js';
import { heldBy } from '../running.js';

export type Channel = Configuration['channels'][number];

/** Findings for errors in a file or in the arguments as a whole. */
export const describeProblems = (problems: readonly string[]): Finding[] =>
  problems.map((text) => failure('anything', 'bad-file', text));

/** Reports why a proxy would reject a channel, if it would. Key files have checks of their own. */
export const describeObstacle = (refusal: VproxyError | undefined): Finding[] =>
  refusal === undefined || refusal.code === 'bad-file' ? [] : [failureOf('anything', refusal)];

const UNUSED = 'no vproxy that this user can ask has it open: whether the peer answers is not known';

/** Checks the location of a requested channel, and which running vproxy already has it. */
export async function checkAskedChannel(machine: Machine, channel: ChannelAddress): Promise<Finding[]> {
  const { text } = channel;
  const owner = await machine.runningChannel(text);
  const ownPid = owner?.vproxy.status.process.pid ?? null;
  const held = owner === null ? [] : [heldBy(owner.vproxy, `has it as channel ${owner.channel.label}`)];
  if (isGroup(channel)) return [...held, ...(await checkGroup(machine, channel, ownPid))];
  const found = await checkChannel(machine, channel, ownPid);
  if (found === null) return [...held, ...notChecked(`${escapeText(text)}: cannot be checked in advance`)];
  // No host process has asked the peer.
  const isUnused = owner === null && found.every(({ level }) => level === 'ok');
  return [...held, ...found, ...(isUnused ? [finding('channel-unused', UNUSED)] : [])];
}

/** Checks the location of a channel; null for a kind that cannot be checked. */
export async function checkChannel(
  machine: Machine,
  { kind, address }: ChannelAddress,
  ownPid: number | null,
): Promise<Finding[] | null> {
  const location = kind.locate?.(address);
  return location === undefined ? null : checkLocation(machine, location, ownPid);
}
