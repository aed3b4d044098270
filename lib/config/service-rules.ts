/** Rules of services in a configuration: those for all channels with those of one, and their form in a file. */
import type { ChannelPolicies } from '../proxy/channel-policy.js';

/** The rules as a file says them. */
export function describeServiceRules(policies: ChannelPolicies): Record<string, object> {
  return Object.fromEntries(
    Object.entries(policies).map(([service, { channels, streams, opensPerSecond, bytesPerSecond, idleTimeoutMs }]) => [
      service,
      {
        ...(channels === undefined ? {} : { channels }),
        ...(streams === undefined ? {} : { streams }),
        ...(opensPerSecond === undefined ? {} : { 'opens-per-second': opensPerSecond }),
        ...(bytesPerSecond === undefined ? {} : { 'bytes-per-second': bytesPerSecond }),
        ...(idleTimeoutMs === undefined ? {} : { 'idle-timeout': idleTimeoutMs / 1000 }),
      },
    ]),
  );
}

/** Both, of which `own` wins, key by key. */
export function mergeServiceRules(defaults: ChannelPolicies = {}, own: ChannelPolicies = {}): ChannelPolicies {
  const services = new Set([...Object.keys(defaults), ...Object.keys(own)]);
  return Object.fromEntries([...services].map((service) => [service, { ...defaults[service], ...own[service] }]));
}
