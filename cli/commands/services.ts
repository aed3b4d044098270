/** `vproxy services`: what is offered, here and by the peers. */
import type { ServiceStatus } from '../../lib/status/types.js';
import { CHANNEL_FILTER, type Command, JSON_OPTION } from '../command/command.js';
import { type ListView, showList } from '../ui/show-list.js';

export const command: Command = {
  usage: 'services [LABEL] [--json]',
  about: 'Lists the services of each channel: those offered here to its peer, and those that the peer offers.',
  examples: [['vproxy services vm1', 'What vm1 offers, and what is offered to it']],
  options: { ...CHANNEL_FILTER, ...JSON_OPTION },
  operands: ['[LABEL]'],
  run: (args) => showList(args, VIEW),
};

const VIEW: ListView<ServiceStatus> = {
  columns: [
    { title: 'CHANNEL', leastWidth: 12 },
    { title: 'SERVICE', leastWidth: 12 },
    { title: 'OFFERED BY' },
    { title: 'FORWARD' },
  ],
  empty: 'No services are offered, here or by a peer.',
  list: (control) => control.services(),
  row: ({ channel, service, offeredBy, forward }) => [channel, service, offeredBy, forward ?? '-'],
};
