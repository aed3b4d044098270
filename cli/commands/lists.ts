/** `vproxy forwards`, `services`, `ports`, `streams` and `egress list`: what belongs to the channels of a running vproxy, as tables. */
import type { ControlClient } from '../../lib/control/client/client.js';
import { VproxyError } from '../../lib/errors.js';
import type {
  EgressStatus,
  ForwardStatus,
  PortStatus,
  ServiceStatus,
  StreamWithRates,
} from '../../lib/status/types.js';
import { whatThereIs } from '../../lib/util/closest-word.js';
import { escapeText } from '../../lib/util/escape.js';
import type { Arguments } from '../command/arguments.js';
import { CHANNEL_FILTER, type Command, JSON_OPTION } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { channelOf } from '../command/labels.js';
import { paintFor, toneOfState } from '../ui/color.js';
import { formatAge, formatBytes, formatRate, outputWidth, print, printJson } from '../ui/print.js';
import { type Column, formatTable } from '../ui/table.js';

/** A command that lists things: what it says of itself, how they are read, and how they are shown. */
interface List<T extends { readonly channel: string }> extends Pick<Command, 'usage' | 'about' | 'examples'> {
  /** Default: `--channel` and `--json`. */
  readonly options?: Command['options'];
  /** The line for an empty list. */
  readonly empty: string;
  readonly read: (control: ControlClient) => Promise<readonly T[]>;
  readonly columns: readonly Column[];
  readonly row: (item: T) => readonly string[];
}

function listCommand<T extends { readonly channel: string }>(list: List<T>): Command {
  const { usage, about, examples, options = { ...CHANNEL_FILTER, ...JSON_OPTION } } = list;
  return { usage, about, examples, options, operands: ['[LABEL]'], run: (args) => showList(args, list) };
}

/** Prints a list as a table, or as JSON; with a LABEL what belongs to that channel. Rejects with `not-found`. */
async function showList<T extends { readonly channel: string }>(args: Arguments, list: List<T>): Promise<void> {
  const label = channelOf(args, args.operands[0]);
  const control = await openControl(args);
  const all = await list.read(control);
  const items = label === undefined ? all : all.filter(({ channel }) => channel === label);
  if (label !== undefined && items.length === 0) await requireChannel(control, label);
  if (args.has('json')) printJson(items);
  else if (items.length === 0) print(`${list.empty}\n`);
  else print(`${formatTable(list.columns, items.map(list.row), outputWidth(), paintFor(process.stdout)).join('\n')}\n`);
}

async function requireChannel(control: ControlClient, label: string): Promise<void> {
  const labels = (await control.channels()).map((channel) => channel.label);
  if (labels.includes(label)) return;
  throw new VproxyError('not-found', `there is no channel ${escapeText(label, 80)}; ${whatThereIs(label, labels)}`);
}

export const forwards = listCommand<ForwardStatus>({
  usage: 'forwards [LABEL] [--json]',
  about: 'Lists the forwards: outgoing ones with the address that they listen on, incoming ones with their target.',
  examples: [
    ['vproxy forwards', 'Those of all channels'],
    ['vproxy forwards vm1 --json', 'Those of one, for a script'],
  ],
  empty: 'There are no forwards.',
  read: (control) => control.forwards(),
  columns: [
    { title: 'ID' },
    { title: 'CHANNEL', leastWidth: 12 },
    { title: 'DIRECTION' },
    { title: 'SERVICE', leastWidth: 12 },
    { title: 'ENDPOINT', leastWidth: 16 },
    { title: 'STATE', toneOf: toneOfState },
    { title: 'STREAMS', align: 'right' },
    { title: 'SO FAR', align: 'right' },
  ],
  row: (forward) => [
    ...[forward.id, forward.channel, forward.direction, forward.service, forward.endpoint, forward.state],
    ...[String(forward.streams), String(forward.opened)],
  ],
});

export const services = listCommand<ServiceStatus>({
  usage: 'services [LABEL] [--json]',
  about: 'Lists the services of each channel: those offered here to its peer, and those that the peer offers.',
  examples: [['vproxy services vm1', 'What vm1 offers, and what is offered to it']],
  empty: 'No services are offered, here or by a peer.',
  read: (control) => control.services(),
  columns: [
    { title: 'CHANNEL', leastWidth: 12 },
    { title: 'SERVICE', leastWidth: 12 },
    { title: 'OFFERED BY' },
    { title: 'FORWARD' },
  ],
  row: ({ channel, service, offeredBy, forward }) => [channel, service, offeredBy, forward ?? '-'],
});

export const ports = listCommand<PortStatus>({
  usage: 'ports [LABEL] [--json]',
  about:
    'Lists the ports that each side announces, with the programs that listen on them there; HERE is where this side listens for a port of the peer, or what it dials for one of its own.',
  examples: [['vproxy ports vm1', 'Those of vm1']],
  options: JSON_OPTION,
  empty: 'No ports are announced, here or by a peer.',
  read: (control) => control.ports(),
  columns: [
    { title: 'CHANNEL', leastWidth: 12 },
    { title: 'PORT', align: 'right' },
    { title: 'PROGRAM', leastWidth: 8 },
    { title: 'ANNOUNCED BY' },
    { title: 'HERE', leastWidth: 16 },
    { title: 'STREAMS', align: 'right' },
  ],
  row: ({ channel, port, program, announcedBy, endpoint, streams }) => [
    ...[channel, String(port), program ?? '-', announcedBy, endpoint ?? '-', String(streams)],
  ],
});

export const streams = listCommand<StreamWithRates>({
  usage: 'streams [LABEL] [--json]',
  about:
    'Lists the streams: what went through them and goes now, what may still be sent each way (CREDIT, here/peer), and whom a stream waits for.',
  examples: [['vproxy streams', 'Those of all channels']],
  empty: 'There are no streams.',
  read: (control) => control.streams(),
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
  row: (stream) => [
    ...[`${stream.channel}/${stream.id}`, stream.service, stream.direction, stream.from ?? '-'],
    ...[formatAge(stream.ageMs), formatBytes(stream.sentBytes), formatBytes(stream.receivedBytes)],
    ...[formatRate(stream.sendRate), formatRate(stream.receiveRate)],
    `${formatBytes(stream.sendCreditBytes)}/${formatBytes(stream.receiveCreditBytes)}`,
    stream.waitsFor ?? '-',
  ],
});

export const egresses = listCommand<EgressStatus>({
  usage: 'egress list [LABEL] [--json]',
  about:
    'Lists the egresses of each channel: the services whose forwards lead to them, what they let the peer reach, and what not.',
  examples: [['vproxy egress list', 'Those of all channels']],
  empty: 'There are no egresses.',
  read: (control) => control.egress(),
  columns: [
    { title: 'CHANNEL', leastWidth: 12 },
    { title: 'EGRESS', leastWidth: 12 },
    { title: 'SERVICES' },
    { title: 'ALLOW', leastWidth: 16 },
    { title: 'DENY', leastWidth: 12 },
    { title: 'UPSTREAM' },
  ],
  row: ({ channel, name, services, rules }) => [
    ...[channel, name, wordsOf(services), wordsOf(rules?.allow ?? []), wordsOf(rules?.deny ?? [])],
    rules?.upstream ?? '-',
  ],
});

const wordsOf = (texts: readonly string[]): string => texts.join(' ') || '-';
