/** `vproxy forwards`, `services`, `ports`, `streams` and `egress list`: tables of things of the channels of a running vproxy. */
import type { ControlClient } from '../../lib/control/client/client.js';
import type {
  EgressStatus,
  ForwardStatus,
  PortStatus,
  ServiceStatus,
  StreamWithRates,
} from '../../lib/status/types.js';
import { CHANNEL_FILTER, type Command, JSON_OPTION } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { channelOf } from '../command/labels.js';
import { paintFor, toneOfState } from '../ui/color.js';
import { formatAge, formatBytes, formatRate, outputWidth, printAnswer } from '../ui/print.js';
import { type Column, formatTable } from '../ui/table.js';

/** A command that lists things: its help, how to read them, and their columns. */
interface List<T extends { readonly channel: string }> extends Pick<Command, 'usage' | 'about' | 'examples'> {
  /** Default: `--channel` and `--json`. */
  readonly options?: Command['options'];
  /** The line for an empty list. */
  readonly empty: string;
  readonly read: (control: ControlClient) => Promise<readonly T[]>;
  readonly columns: readonly Column<T>[];
}

/** A command that prints a list as a table, or as JSON; with a LABEL, of that channel. It rejects with `not-found`. */
function listCommand<T extends { readonly channel: string }>({ empty, read, columns, ...rest }: List<T>): Command {
  return {
    options: { ...CHANNEL_FILTER, ...JSON_OPTION },
    ...rest,
    operands: ['[LABEL]'],
    async run(args) {
      const label = channelOf(args, args.operands[0]);
      const control = await openControl(args);
      const all = await read(control);
      const items = label === undefined ? all : all.filter(({ channel }) => channel === label);
      if (label !== undefined) await control.channel(label);
      const describe = () => formatTable(columns, items, outputWidth(), paintFor(process.stdout));
      printAnswer(args, items, () => (items.length === 0 ? [empty] : describe()));
    },
  };
}

export const forwards = listCommand<ForwardStatus>({
  usage: 'forwards [LABEL] [--json]',
  about: 'Lists the forwards: outgoing ones with the address that they listen on, incoming ones with their target.',
  examples: [
    ['vproxy forwards', 'Of all channels'],
    ['vproxy forwards vm1 --json', 'Of one channel, for a script'],
  ],
  empty: 'There are no forwards.',
  read: (control) => control.forwards(),
  columns: [
    { title: 'ID', cell: ({ id }) => id },
    { title: 'CHANNEL', cell: ({ channel }) => channel, leastWidth: 12 },
    { title: 'DIRECTION', cell: ({ direction }) => direction },
    { title: 'SERVICE', cell: ({ service }) => service, leastWidth: 12 },
    { title: 'ENDPOINT', cell: ({ endpoint }) => endpoint, leastWidth: 16 },
    {
      title: 'STATE',
      cell: ({ state, offered }) => (state === 'active' && offered === false ? 'not offered' : state),
      toneOf: toneOfState,
    },
    { title: 'STREAMS', cell: ({ streams }) => String(streams), align: 'right' },
    { title: 'SO FAR', cell: ({ opened }) => String(opened), align: 'right' },
  ],
});

export const services = listCommand<ServiceStatus>({
  usage: 'services [LABEL] [--json]',
  about: 'Lists the services of each channel: those offered here to its peer, and those that the peer offers.',
  examples: [['vproxy services vm1', 'Those that vm1 offers, and those offered to it']],
  empty: 'No services are offered, here or by a peer.',
  read: (control) => control.services(),
  columns: [
    { title: 'CHANNEL', cell: ({ channel }) => channel, leastWidth: 12 },
    { title: 'SERVICE', cell: ({ service }) => service, leastWidth: 12 },
    { title: 'OFFERED BY', cell: ({ offeredBy }) => offeredBy },
    { title: 'FORWARD', cell: ({ forward }) => forward ?? '-' },
  ],
});

export const ports = listCommand<PortStatus>({
  usage: 'ports [LABEL] [--json]',
  about:
    'Lists the ports that each side announces, with the programs that listen on them there. HERE is the address where this side listens for a port of the peer, or that it dials for one of its own.',
  examples: [['vproxy ports vm1', 'Of one channel']],
  options: JSON_OPTION,
  empty: 'No ports are announced, here or by a peer.',
  read: (control) => control.ports(),
  columns: [
    { title: 'CHANNEL', cell: ({ channel }) => channel, leastWidth: 12 },
    { title: 'PORT', cell: ({ port }) => String(port), align: 'right' },
    { title: 'PROGRAM', cell: ({ program }) => program ?? '-', leastWidth: 8 },
    { title: 'ANNOUNCED BY', cell: ({ announcedBy }) => announcedBy },
    { title: 'HERE', cell: ({ endpoint }) => endpoint ?? '-', leastWidth: 16 },
    { title: 'STREAMS', cell: ({ streams }) => String(streams), align: 'right' },
  ],
});

export const streams = listCommand<StreamWithRates>({
  usage: 'streams [LABEL] [--json]',
  about:
    'Lists the streams: their traffic so far and its current rate, how much may still be sent each way (CREDIT, here/peer), and what a stream waits for.',
  examples: [['vproxy streams', 'Of all channels']],
  empty: 'There are no streams.',
  read: (control) => control.streams(),
  columns: [
    { title: 'STREAM', cell: ({ channel, id }) => `${channel}/${id}`, leastWidth: 12 },
    { title: 'SERVICE', cell: ({ service }) => service, leastWidth: 8 },
    { title: 'DIRECTION', cell: ({ direction }) => direction },
    { title: 'FROM', cell: ({ from }) => from ?? '-', leastWidth: 4 },
    { title: 'AGE', cell: ({ ageMs }) => formatAge(ageMs), align: 'right' },
    { title: 'SENT', cell: ({ sentBytes }) => formatBytes(sentBytes), align: 'right' },
    { title: 'RECEIVED', cell: ({ receivedBytes }) => formatBytes(receivedBytes), align: 'right' },
    { title: 'SENDING', cell: ({ sendRate }) => formatRate(sendRate), align: 'right' },
    { title: 'RECEIVING', cell: ({ receiveRate }) => formatRate(receiveRate), align: 'right' },
    { title: 'CREDIT', cell: describeCredit, align: 'right', leastWidth: 6 },
    { title: 'WAITS FOR', cell: ({ waitsFor }) => waitsFor ?? '-', leastWidth: 9 },
  ],
});

export const egresses = listCommand<EgressStatus>({
  usage: 'egress list [LABEL] [--json]',
  about: 'Lists the egresses of each channel: the services whose forwards lead to them, and what they allow and deny.',
  examples: [['vproxy egress list', 'Of all channels']],
  empty: 'There are no egresses.',
  read: (control) => control.egress(),
  columns: [
    { title: 'CHANNEL', cell: ({ channel }) => channel, leastWidth: 12 },
    { title: 'EGRESS', cell: ({ name }) => name, leastWidth: 12 },
    { title: 'SERVICES', cell: ({ services }) => wordsOf(services) },
    { title: 'ALLOW', cell: ({ rules }) => wordsOf(rules?.allow ?? []), leastWidth: 16 },
    { title: 'DENY', cell: ({ rules }) => wordsOf(rules?.deny ?? []), leastWidth: 12 },
    { title: 'UPSTREAM', cell: ({ rules }) => rules?.upstream ?? '-' },
  ],
});

function describeCredit({ sendCreditBytes, receiveCreditBytes }: StreamWithRates): string {
  return `${formatBytes(sendCreditBytes)}/${formatBytes(receiveCreditBytes)}`;
}

const wordsOf = (texts: readonly string[]): string => texts.join(' ') || '-';
