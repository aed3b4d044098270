/** `vproxy streams`: the streams as a table. */
import type { StreamWithRates } from '../../lib/status/types.js';
import { CHANNEL_FILTER, type Command, JSON_OPTION } from '../command/command.js';
import { formatAge, formatBytes, formatRate } from '../ui/print.js';
import { type ListView, showList } from '../ui/show-list.js';

/** The command. */
export const command: Command = {
  usage: 'streams [--channel LABEL] [--json]',
  about:
    'Lists the streams: what went through them and goes now, what may still be sent each way (CREDIT, here/peer), and whom a stream waits for.',
  options: { ...CHANNEL_FILTER, ...JSON_OPTION },
  run: (args) => showList(args, VIEW),
};

const VIEW: ListView<StreamWithRates> = {
  columns: [
    { title: 'STREAM', leastWidth: 12 },
    { title: 'SERVICE', leastWidth: 8 },
    { title: 'DIRECTION' },
    { title: 'FROM', leastWidth: 4 },
    { title: 'AGE', align: 'right' },
    { title: 'SENT', align: 'right' },
    { title: 'RECEIVED', align: 'right' },
    { title: 'SENDING', align: 'right' },
    { title: 'RECEIVING', align: 'right' },
    { title: 'CREDIT', align: 'right', leastWidth: 6 },
    { title: 'WAITS FOR', leastWidth: 9 },
  ],
  empty: 'There are no streams.',
  list: (control) => control.streams(),
  row: (stream) => [
    `${stream.channel}/${stream.id}`,
    stream.service,
    stream.direction,
    stream.from ?? '-',
    formatAge(stream.ageMs),
    formatBytes(stream.sentBytes),
    formatBytes(stream.receivedBytes),
    formatRate(stream.sendRate),
    formatRate(stream.receiveRate),
    `${formatBytes(stream.sendCreditBytes)}/${formatBytes(stream.receiveCreditBytes)}`,
    stream.waitsFor ?? '-',
  ],
};
