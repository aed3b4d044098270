/** `vproxy forwards`: the forwards as a table. */
import type { ForwardStatus } from '../../lib/status/types.js';
import { CHANNEL_FILTER, type Command, JSON_OPTION } from '../command/command.js';
import { type ListView, showList } from '../ui/show-list.js';

/** The command. */
export const command: Command = {
  usage: 'forwards [--channel LABEL] [--json]',
  about: 'Lists the forwards: outgoing ones with the address that they listen on, incoming ones with their target.',
  options: { ...CHANNEL_FILTER, ...JSON_OPTION },
  run: (args) => showList(args, VIEW),
};

const VIEW: ListView<ForwardStatus> = {
  columns: [
    { title: 'ID' },
    { title: 'CHANNEL', leastWidth: 12 },
    { title: 'DIRECTION' },
    { title: 'SERVICE', leastWidth: 12 },
    { title: 'ENDPOINT', leastWidth: 16 },
    { title: 'STATE' },
    { title: 'STREAMS', align: 'right' },
    { title: 'SO FAR', align: 'right' },
  ],
  empty: 'There are no forwards.',
  list: (control) => control.forwards(),
  row: ({ id, channel, direction, service, endpoint, state, streams, opened }) => [
    id,
    channel,
    direction,
    service,
    endpoint,
    state,
    String(streams),
    String(opened),
  ],
};
