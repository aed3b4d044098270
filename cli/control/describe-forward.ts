/** A forward in a line for people. */
import type { ForwardStatus } from '../../lib/proxy/status.js';
import { escapeText } from '../../lib/util/escape.js';

/** `f3: listens on 127.0.0.1:9022 for ssh of vm1`. */
export function describeForward({ id, channel, direction, service, endpoint }: ForwardStatus): string {
  const where = escapeText(endpoint);
  const what = escapeText(service);
  return direction === 'outgoing'
    ? `${id}: listens on ${where} for ${what} of ${channel}`
    : `${id}: offers ${what} at ${where} to ${channel}`;
}
