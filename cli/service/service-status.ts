/** How a process is, in one line for `systemctl status`. */
import type { ChannelStatus } from '../../lib/proxy/status.js';
import { escapeText } from '../../lib/util/escape.js';

const MAX_LENGTH = 300;

/** Of a single channel the peer, or what it waits for; of several how many have a session. */
export function formatServiceStatus(channels: readonly ChannelStatus[]): string {
  const [only] = channels;
  if (only === undefined) return 'no channels';
  if (channels.length === 1) return escapeText(describe(only), MAX_LENGTH);
  const count = channels.filter(({ session }) => session !== null).length;
  return `${count} of ${channels.length} channels ${count === 1 ? 'has' : 'have'} a session`;
}

function describe({ state, detail, session }: ChannelStatus): string {
  if (session === null) return `no session, ${state}${detail === null ? '' : `: ${detail}`}`;
  const { name, agent } = session.peer;
  return `session with ${name ?? 'the peer'} (${agent})`;
}
