/** `vproxy forwards`, `services`, `ports`, `streams`, `egress list` and `egress rules`: tables of things of the channels. */
import type { ControlClient } from '../../lib/control/client/client.js';
import type {
  EgressQuestion,
  EgressStats,
  EgressStatus,
  ForwardStatus,
  PortWithUrl,
  ServiceStatus,
  StreamWithRates,
} from '../../lib/status/types.js';
import { CHANNEL_FILTER, type Command } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { channelOf } from '../command/labels.js';
import { listCommand } from '../command/list-command.js';
import { toneOfState } from '../ui/color.js';
import { formatAge, formatBytes, formatRate } from '../ui/print.js';
import { type Column, columnsFor, formatTable } from '../ui/table.js';
import { NO_QUESTION, QUESTION_COLUMNS } from './question-columns.js';

/** A list of things of channels: its help, how to read them, their names, and their columns. */
interface List<T extends { readonly channel: string }> extends Pick<Command, 'usage' | 'about' | 'examples'> {
  /** Default: `--channel`. */
  readonly options?: Command['options'];
  /** The line for an empty list. */
  readonly empty: string;
  readonly read: (control: ControlClient) => Promise<readonly T[]>;
  /** The name that other commands take. */
  readonly nameOf: (thing: T) => string;
  readonly columns: readonly Column<T>[];
}

/** A command that prints such a list; with a LABEL, of that channel. It rejects with `not-found`. */
function listOfChannels<T extends { readonly channel: string }>(list: List<T>): Command {
  const { empty, read, nameOf, columns, ...rest } = list;
  return listCommand<readonly T[]>({
    options: CHANNEL_FILTER,
    ...rest,
    operands: ['[LABEL]'],
    async open(args) {
      const label = channelOf(args, args.operands[0]);
      const control = await openControl(args);
      return async () => {
        const all = await read(control);
        if (label === undefined) return all;
        await control.channel(label);
        return all.filter(({ channel }) => channel === label);
      };
    },
    names: (items) => items.map(nameOf),
    lines: (items, { isWide, width, paint }) =>
      items.length === 0 ? [empty] : formatTable(columnsFor(columns, isWide), items, width, paint),
  });
}

/** The messages of datagram flows. */
const DATAGRAM_COLUMNS: readonly Column<Pick<ForwardStatus, 'datagrams'>>[] = [
  {
    title: 'MESSAGES',
    cell: ({ datagrams }) => (datagrams === null ? '-' : `${datagrams.sent}/${datagrams.received}`),
    align: 'right',
    isWide: true,
  },
  {
    title: 'DROPPED',
    cell: ({ datagrams }) => (datagrams === null ? '-' : `${datagrams.sendDropped}/${datagrams.receiveDropped}`),
    align: 'right',
    isWide: true,
  },
];

export const forwards = listOfChannels<ForwardStatus>({
  usage: 'forwards [LABEL] [-o json|name|wide] [--watch]',
  about: 'Lists the forwards: outgoing ones with the address that they listen on, incoming ones with their target.',
  examples: [
    ['vproxy forwards', 'Of all channels'],
    ['vproxy forwards vm1 -o json', 'Of one channel, for a script'],
    ['vproxy forwards vm1 -o name | xargs -rn 1 vproxy forward remove', 'Remove all of a channel'],
  ],
  empty: 'There are no forwards.',
  read: (control) => control.forwards(),
  nameOf: ({ id }) => id,
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
    ...DATAGRAM_COLUMNS,
    { title: 'TEXT', cell: ({ spec }) => spec, isWide: true },
  ],
});

export const services = listOfChannels<ServiceStatus>({
  usage: 'services [LABEL] [-o json|name|wide] [--watch]',
  about: 'Lists the services of each channel: those offered here to its peer, and those that the peer offers.',
  examples: [['vproxy services vm1', 'Those that vm1 offers, and those offered to it']],
  empty: 'No services are offered, here or by a peer.',
  async read(control) {
    const [services, forwards] = await Promise.all([control.services(), control.forwards()]);
    return services.map((one) => {
      const found = forwards.find(
        ({ channel, service, direction }) =>
          direction === 'outgoing' && channel === one.channel && service === one.service,
      );
      return one.offeredBy === 'peer' ? { ...one, forward: found?.id ?? null } : one;
    });
  },
  nameOf: ({ channel, service }) => `${channel}/${service}`,
  columns: [
    { title: 'CHANNEL', cell: ({ channel }) => channel, leastWidth: 12 },
    { title: 'SERVICE', cell: ({ service }) => service, leastWidth: 12 },
    { title: 'OFFERED BY', cell: ({ offeredBy }) => offeredBy },
    { title: 'FORWARD', cell: ({ forward }) => forward ?? '-' },
  ],
});

export const ports = listOfChannels<PortWithUrl>({
  usage: 'ports [LABEL] [-o json|name|wide] [--watch]',
  about:
    'Lists the ports that each side announces, with the programs that listen on them there. HERE is the address where this side listens for a port of the peer, or its URL, or the address that this side dials for one of its own.',
  examples: [['vproxy ports vm1', 'Of one channel']],
  options: {},
  empty: 'No ports are announced, here or by a peer.',
  read: (control) => control.ports(),
  nameOf: ({ channel, port }) => `${channel}/${port}`,
  columns: [
    { title: 'CHANNEL', cell: ({ channel }) => channel, leastWidth: 12 },
    { title: 'PORT', cell: ({ port }) => String(port), align: 'right' },
    { title: 'PROGRAM', cell: ({ program }) => program ?? '-', leastWidth: 8 },
    { title: 'ANNOUNCED BY', cell: ({ announcedBy }) => announcedBy },
    { title: 'HERE', cell: ({ endpoint, url }) => endpoint ?? url ?? '-', leastWidth: 16 },
    { title: 'STREAMS', cell: ({ streams }) => String(streams), align: 'right' },
    { title: 'FORWARD', cell: ({ forward }) => forward ?? '-', isWide: true },
    { title: 'URL', cell: ({ url }) => url ?? '-', isWide: true },
  ],
});

export const streams = listOfChannels<StreamWithRates>({
  usage: 'streams [LABEL] [-o json|name|wide] [--watch]',
  about:
    'Lists the streams: their traffic so far and its current rate, how much may still be sent each way (CREDIT, here/peer), and what a stream waits for.',
  examples: [['vproxy streams', 'Of all channels']],
  empty: 'There are no streams.',
  read: (control) => control.streams(),
  nameOf: streamName,
  columns: [
    { title: 'STREAM', cell: streamName, leastWidth: 12 },
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
    { title: 'DESTINATION', cell: ({ reached }) => reached?.destination ?? '-', isWide: true },
    { title: 'RULE', cell: ({ reached }) => reached?.rule ?? '-', isWide: true },
    { title: 'FORWARD', cell: ({ forward }) => forward ?? '-', isWide: true },
    ...DATAGRAM_COLUMNS,
  ],
});

export const egresses = listOfChannels<EgressStatus>({
  usage: 'egress list [LABEL] [-o json|name|wide] [--watch]',
  about: 'Lists the egresses of each channel: the services whose forwards lead to them, and what they allow and deny.',
  examples: [['vproxy egress list', 'Of all channels']],
  empty: 'There are no egresses.',
  read: (control) => control.egress(),
  nameOf: ({ channel, name }) => `${channel}/${name}`,
  columns: [
    { title: 'CHANNEL', cell: ({ channel }) => channel, leastWidth: 12 },
    { title: 'EGRESS', cell: ({ name }) => name, leastWidth: 12 },
    { title: 'SERVICES', cell: ({ services }) => wordsOf(services) },
    { title: 'ALLOW', cell: ({ rules }) => wordsOf(rules?.allow ?? []), leastWidth: 16 },
    { title: 'DENY', cell: ({ rules }) => wordsOf(rules?.deny ?? []), leastWidth: 12 },
    { title: 'UPSTREAM', cell: ({ rules }) => rules?.upstream ?? '-' },
  ],
});

export const egressRules = listOfChannels<ReturnType<typeof rulesOf>[number]>({
  usage: 'egress rules [LABEL] [-o json|name|wide] [--watch]',
  about:
    'Lists the rules of egresses in effect. UNTIL is when an entry goes: at a time, at vproxy egress reset, or - for one of the configuration.',
  examples: [['vproxy egress rules vm1', 'Of one channel']],
  empty: 'There are no rules: nothing is allowed.',
  read: async (control) => (await control.egress()).flatMap(rulesOf),
  nameOf: ({ entry }) => entry,
  columns: [
    { title: 'CHANNEL', cell: ({ channel }) => channel, leastWidth: 12 },
    { title: 'EGRESS', cell: ({ egress }) => egress, leastWidth: 12 },
    { title: 'LIST', cell: ({ list }) => list },
    { title: 'ENTRY', cell: ({ entry }) => entry, leastWidth: 16 },
    { title: 'UNTIL', cell: ({ until }) => until ?? '-' },
  ],
});

export const egressStats = listOfChannels<EgressStats>({
  usage: 'egress stats [LABEL] [-o json|name|wide] [--watch]',
  about:
    'Lists the destinations of egresses in the last hour: how many connections were opened and refused, how many questions were asked, and the bytes of connections that have ended.',
  examples: [['vproxy egress stats vm1', 'Of one channel']],
  empty: 'Nothing was reached or refused in the last hour.',
  read: (control) => control.egressStats(),
  nameOf: ({ destination }) => destination ?? '-',
  columns: [
    { title: 'CHANNEL', cell: ({ channel }) => channel, leastWidth: 12 },
    { title: 'EGRESS', cell: ({ egress }) => egress, leastWidth: 8 },
    { title: 'DESTINATION', cell: ({ destination }) => destination ?? '(others)', leastWidth: 16 },
    { title: 'OPENED', cell: ({ opened }) => String(opened), align: 'right' },
    { title: 'REFUSED', cell: ({ refused }) => String(refused), align: 'right' },
    { title: 'ASKED', cell: ({ asked }) => String(asked), align: 'right' },
    { title: 'UP', cell: ({ uploadedBytes }) => formatBytes(uploadedBytes), align: 'right' },
    { title: 'DOWN', cell: ({ downloadedBytes }) => formatBytes(downloadedBytes), align: 'right' },
  ],
});

export const egressQuestions = listOfChannels<EgressQuestion>({
  usage: 'egress asked [LABEL] [-o json|name|wide] [--watch]',
  about:
    'Lists the destinations that no entry names, and that wait for an answer, with the time that is left and how many connections wait. Only egresses with `ask` have any.',
  examples: [['vproxy egress asked', 'Of all channels']],
  empty: NO_QUESTION,
  read: (control) => control.egressQuestions(),
  nameOf: ({ channel, id }) => `${channel}/${id}`,
  columns: QUESTION_COLUMNS,
});

function rulesOf({ channel, name, rules, added, denied, isBlocked }: EgressStatus) {
  const { allow = [], deny = [] } = rules ?? {};
  // The last ones were added; the configuration may have an entry of the same text.
  const untilIn = (some: EgressStatus['added'], all: readonly string[], index: number) => {
    const firstAdded = all.length - some.length;
    return index < firstAdded ? null : (some[index - firstAdded]?.until ?? 'reset');
  };
  const row = (list: string, entry: string, until: string | null) => ({ channel, egress: name, list, entry, until });
  return [
    ...allow.map((entry, index) => row('allow', entry, untilIn(added, allow, index))),
    ...deny.map((entry, index) => row('deny', entry, isBlocked ? 'reset' : untilIn(denied, deny, index))),
  ];
}

function streamName({ channel, id }: StreamWithRates): string {
  return `${channel}/${id}`;
}

function describeCredit({ sendCreditBytes, receiveCreditBytes }: StreamWithRates): string {
  return `${formatBytes(sendCreditBytes)}/${formatBytes(receiveCreditBytes)}`;
}

const wordsOf = (texts: readonly string[]): string => texts.join(' ') || '-';
