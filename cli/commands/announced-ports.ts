/** `vproxy ports`: the ports that appear by themselves, here and at the peers. */
import type { PortStatus } from '../../lib/status/types.js';
import { type Command, JSON_OPTION } from '../command/command.js';
import { type ListView, showList } from '../ui/show-list.js';

export const command: Command = {
  usage: 'ports [LABEL] [--json]',
  about:
    'Lists the ports that each side announces, with the programs that listen on them there; HERE is where this side listens for a port of the peer, or what it dials for one of its own.',
  examples: [['vproxy ports vm1', 'Those of vm1']],
  options: JSON_OPTION,
  operands: ['[LABEL]'],
  run: (args) => showList(args, VIEW),
};

const VIEW: ListView<PortStatus> = {
  columns: [
    { title: 'CHANNEL', leastWidth: 12 },
    { title: 'PORT', align: 'right' },
    { title: 'PROGRAM', leastWidth: 8 },
    { title: 'ANNOUNCED BY' },
    { title: 'HERE', leastWidth: 16 },
    { title: 'STREAMS', align: 'right' },
  ],
  empty: 'No ports are announced, here or by a peer.',
  list: (control) => control.ports(),
  row: ({ channel, port, program, announcedBy, endpoint, streams }) => [
    channel,
    String(port),
    program ?? '-',
    announcedBy,
    endpoint ?? '-',
    String(streams),
  ],
};
