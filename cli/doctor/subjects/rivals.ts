/** Running vproxy processes that compete for a channel that only one of them can use. */
import { placeOf } from '../../../lib/channel/address/address.js';
import { isControlName } from '../../../lib/control/socket-paths.js';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../findings.js';
import { type Job, job } from '../jobs.js';
import { formatRunning, type RunningChannel } from '../running.js';

/** Plans a check for each location of `asked` that several processes of `all` have. */
export function planRivals(all: readonly RunningChannel[], asked: readonly RunningChannel[]): Job[] {
  const rivals = new Map<string, RunningChannel[]>();
  for (const one of all) {
    const place = placeOfOne(one);
    if (place !== null) rivals.set(place, [...(rivals.get(place) ?? []), one]);
  }
  const contested = [...rivals.values()].filter(
    (ones) => new Set(ones.map(({ vproxy }) => vproxy.status.process.pid)).size > 1 && ones.some(isAmong(asked)),
  );
  return contested.map((ones) => {
    const labels = [...new Set(ones.map(({ channel }) => channel.label))].join(', ');
    return job('rivals', `channel ${labels}`, () => [describeRivals(ones)]);
  });
}

const isAmong =
  (asked: readonly RunningChannel[]) =>
  ({ vproxy, channel }: RunningChannel): boolean =>
    asked.some((one) => one.vproxy.path === vproxy.path && one.channel.label === channel.label);

/** Null for a channel that listens: the system allows only one listener. */
const placeOfOne = ({ address }: RunningChannel): string | null =>
  address?.kind.mode === 'dial' ? placeOf(address) : null;

function describeRivals(rivals: readonly RunningChannel[]): Finding {
  const [first] = rivals;
  const who = rivals.map(({ vproxy, channel }) => `${formatRunning(vproxy)}, where it is ${channel.state}`);
  const stops = rivals.map(({ vproxy: { path, status } }) =>
    status.process.name !== null && isControlName(status.process.name)
      ? `vproxy stop --name ${status.process.name}`
      : `vproxy stop --socket ${path}`,
  );
  const message = `${escapeText(first?.channel.address ?? '')} is a channel of ${who.join('; and of ')}`;
  return finding('channel-contested', message, { COMMANDS: stops.map((text) => escapeText(text)).join(', or ') });
}
