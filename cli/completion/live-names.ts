/** Names of a running vproxy for the completion of a shell. */
import type { ControlClient } from '../../lib/control/client/client.js';
import type { ForwardStatus } from '../../lib/status/types.js';
import { escapeText } from '../../lib/util/escape.js';
import type { LiveName } from './value-sort.js';

/** A name, and what is said of it. */
export interface NamedThing {
  readonly name: string;
  readonly summary: string;
}

/** The names of one sort, in the order in which the process lists them. */
export async function liveNames(control: ControlClient, sort: LiveName): Promise<NamedThing[]> {
  switch (sort) {
    case 'channels':
      return (await control.channels()).map(({ label, state, address }) => named(label, `${state}, ${address}`));
    case 'services':
      return serviceNames(control);
    case 'forwards':
      return forwardNames(control);
    case 'streams':
      return (await control.streams()).map(({ channel, id, service, direction }) =>
        named(`${channel}/${id}`, `${service}, ${direction}`),
      );
  }
}

/** Their ids, and the services that one alone is for. */
async function forwardNames(control: ControlClient): Promise<NamedThing[]> {
  const forwards = await control.forwards();
  const described = ({ channel, direction, spec }: ForwardStatus): string =>
    `${direction === 'outgoing' ? '-o' : '-i'} ${channel}/${spec}`;
  const single = forwards.filter(({ service }) => forwards.filter((other) => other.service === service).length === 1);
  return [
    ...forwards.map((forward) => named(forward.id, described(forward))),
    ...single.map((forward) => named(forward.service, described(forward))),
  ];
}

/** What the peers offer: with the label of the channel where there are several. */
async function serviceNames(control: ControlClient): Promise<NamedThing[]> {
  const [services, channels] = await Promise.all([control.services(), control.channels()]);
  return services
    .filter(({ offeredBy }) => offeredBy === 'peer')
    .map(({ channel, service }) => named(channels.length > 1 ? `${channel}/${service}` : service, `of ${channel}`));
}

const named = (name: string, summary: string): NamedThing => ({ name, summary: escapeText(summary, 120) });
