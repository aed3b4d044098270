/** The rules of the services of a channel, and which of them are other ones when its options are. */
import type { ServicePolicy } from '../forward/service-policy.js';

/** The rule of one service, as it is said for many channels at once. */
export interface ChannelPolicy extends ServicePolicy {
  /** The labels of the channels, and of the groups, whose peers may open it. Default: all. */
  readonly channels?: readonly string[];
}

/** Rules by the names of their services. */
export type ChannelPolicies = Readonly<Record<string, ChannelPolicy>>;

/** The rule on the channel `label` of the group `group`. */
export function resolvePolicy(
  { channels, ...policy }: ChannelPolicy,
  label: string,
  group: string | null,
): ServicePolicy {
  if (channels === undefined || channels.some((name) => name === label || name === group)) return policy;
  return { ...policy, isAllowed: false };
}

/** The names of the services whose rule is another one. */
export function changedPolicies(one: ChannelPolicies = {}, other: ChannelPolicies = {}): string[] {
  const names = new Set([...Object.keys(one), ...Object.keys(other)]);
  return [...names].filter((name) => textOf(one[name]) !== textOf(other[name]));
}

const textOf = (policy: ChannelPolicy = {}): string => JSON.stringify(Object.entries(policy).sort());
