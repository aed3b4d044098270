/** A channel: what it leads to, by its kind, and whether its options are accepted. */
import type { ChannelAddress } from '../../../lib/channel/address/address.js';
import { findRefusal } from '../../../lib/proxy/check-options.js';
import { isGroup } from '../../../lib/proxy/groups/group-pattern.js';
import type { Configuration } from '../../../lib/settings/configuration.js';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../findings.js';
import { notChecked } from '../jobs.js';
import { checkLocation } from '../locations/location.js';
import { checkGroup } from '../locations/unix-socket.js';
import type { Machine } from '../machine.js';
import { heldBy } from '../running.js';

/** A channel of a configuration. */
export type Channel = Configuration['channels'][number];

/** What is wrong with a file or with arguments as a whole. */
export const describeProblems = (problems: readonly string[]): Finding[] =>
  problems.map((text) => finding('config-invalid', text));

/** What a proxy would refuse. Key files have checks of their own. */
export function checkOptions(channel: Channel): Finding[] {
  const refusal = findRefusal(channel);
  return refusal === null || refusal.code === 'bad-file' ? [] : [finding('channel-refused', refusal.message)];
}

/** What a channel that is asked for leads to, and which running vproxy has it already. */
export async function checkAskedChannel(machine: Machine, channel: ChannelAddress): Promise<Finding[]> {
  const { text } = channel;
  const owner = await machine.runningChannel(text);
  const ownPid = owner?.vproxy.status.process.pid ?? null;
  const held = owner === null ? [] : [heldBy(owner.vproxy, `has it, as its channel ${owner.channel.label}`)];
  if (isGroup({ address: text })) return [...held, ...(await checkGroup(machine, text, ownPid))];
  const found = await checkChannel(machine, channel, ownPid);
  return [...held, ...(found ?? notChecked(`${escapeText(text)}: nothing of it can be looked at beforehand`))];
}

/** What is found where a channel leads to; null for a kind of which nothing can be seen. */
export async function checkChannel(
  machine: Machine,
  { kind, address }: ChannelAddress,
  ownPid: number | null,
): Promise<Finding[] | null> {
  const location = kind.locate?.(address);
  return location === undefined ? null : checkLocation(machine, location, ownPid);
}
