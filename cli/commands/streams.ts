/** `vproxy streams` and `vproxy stream close`: the streams of a running vproxy. */

import { VproxyError } from '../../lib/errors.js';
import type { StreamWithRates } from '../../lib/status/types.js';
import { escapeText } from '../../lib/util/escape.js';
import type { Arguments } from '../command/arguments.js';
import { CHANNEL_FILTER, type Command, JSON_OPTION } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { formatAge, formatBytes, formatRate } from '../ui/print.js';
import { type ListView, showList } from '../ui/show-list.js';

export const list: Command = {
  usage: 'streams [LABEL] [--json]',
  about:
    'Lists the streams: what went through them and goes now, what may still be sent each way (CREDIT, here/peer), and whom a stream waits for.',
  examples: [['vproxy streams', 'Those of all channels']],
  options: { ...CHANNEL_FILTER, ...JSON_OPTION },
  operands: ['[LABEL]'],
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

export const close: Command = {
  usage: 'stream close CHANNEL/ID',
  about: 'Resets a stream, which `vproxy streams` names; the programs at both ends see their connections fail.',
  examples: [['vproxy stream close vm1/7', 'Stream 7 of vm1']],
  options: {},
  operands: ['CHANNEL/ID'],
  run: closeStream,
};

async function closeStream(args: Arguments): Promise<void> {
  const [text = ''] = args.operands;
  const [, channel, id] = /^([a-z0-9._-]{1,64})\/(\d{1,10})$/.exec(text) ?? [];
  if (channel === undefined || id === undefined) {
    throw new VproxyError('bad-argument', `"${escapeText(text, 64)}" is not CHANNEL/ID, such as default/7`);
  }
  const control = await openControl(args);
  await control.closeStream(channel, Number(id));
}
