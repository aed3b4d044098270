/** Human-readable channels, as a table or one in full; forwards and processes in a line or a few. */

import type { ChannelStatus, ControlStatus, ForwardStatus, SessionStatus } from '../../lib/status/types.js';
import { escapeText } from '../../lib/util/escape.js';
import { formatCount } from '../../lib/util/units.js';
import { type Paint, paintNothing, toneOfState } from './color.js';
import { describeHistory } from './machine-history.js';
import { formatAge, formatBytes, formatDuration } from './print.js';
import { type Column, columnsFor, formatFacts, formatTable } from './table.js';

const COLUMNS: readonly Column<ChannelStatus>[] = [
  { title: 'CHANNEL', cell: ({ label }) => label, leastWidth: 12 },
  { title: 'STATE', cell: shownState, toneOf: toneOfState },
  { title: 'FOR', cell: formatTimeInState, align: 'right' },
  { title: 'PEER', cell: ({ session }) => (session === null ? '-' : describePeer(session)), leastWidth: 12 },
  { title: 'RTT', cell: formatRoundTrip, align: 'right' },
  { title: 'STREAMS', cell: ({ session }) => String(session?.streams ?? 0), align: 'right' },
  { title: 'SESSIONS', cell: ({ history }) => String(history.sessions), align: 'right' },
  { title: 'SENT', cell: ({ totals }) => formatBytes(totals.sentBytes), align: 'right' },
  { title: 'RECEIVED', cell: ({ totals }) => formatBytes(totals.receivedBytes), align: 'right' },
  { title: 'AUTH', cell: ({ session }) => (session === null ? '-' : describeProtection(session)) },
  { title: 'ADDRESS', cell: ({ address }) => address, leastWidth: 16, isWide: true },
  { title: 'GROUP', cell: ({ group }) => group ?? '-', isWide: true },
  { title: 'INTEGRITY', cell: ({ session }) => session?.integrity ?? '-', isWide: true },
  {
    title: 'UNWRITTEN',
    cell: ({ session }) => formatBytes(session?.unwrittenBytes ?? 0),
    align: 'right',
    isWide: true,
  },
  { title: 'STALLED', cell: ({ totals }) => formatAge(totals.stallMs), align: 'right', isWide: true },
  { title: 'RESUMED', cell: ({ totals }) => String(totals.resumptions), align: 'right', isWide: true },
  { title: 'OPENED', cell: ({ totals }) => String(totals.streamsOpened), align: 'right', isWide: true },
  { title: 'FAILED', cell: ({ totals }) => String(totals.streamsFailed), align: 'right', isWide: true },
];

/** A table, followed by what channels without a session wait for. */
export function formatChannels(
  channels: readonly ChannelStatus[],
  width: number | null,
  paint: Paint = paintNothing,
  isWide = false,
): string[] {
  if (channels.length === 0) return ['There are no channels.'];
  const notes = channels.flatMap((channel) => {
    const note = describeWait(channel);
    return note === null ? [] : [`${channel.label}: ${note}`];
  });
  return [
    ...formatTable(columnsFor(COLUMNS, isWide), channels, width, paint),
    ...(notes.length > 0 ? ['', ...notes] : []),
  ];
}

/** The time since the last byte if the peer's answer is overdue, in milliseconds; otherwise null. Older processes lack it. */
const silentMsOf = ({ session }: ChannelStatus): number | null => session?.silentMs ?? null;

/** Its state, or that it is silent. */
export function shownState(channel: ChannelStatus): string {
  return silentMsOf(channel) === null ? channel.state : 'silent';
}

/** How long a channel has been in the state that is shown. */
export function formatTimeInState(channel: ChannelStatus): string {
  return formatAge(silentMsOf(channel) ?? timeInState(channel));
}

const timeInState = ({ since }: ChannelStatus): number => Date.now() - Date.parse(since);

/** The round-trip time; a dash if not measured, or out of date. */
export function formatRoundTrip(channel: ChannelStatus): string {
  const roundTripMs = channel.session?.roundTripMs ?? null;
  return roundTripMs === null || silentMsOf(channel) !== null ? '-' : formatDuration(roundTripMs);
}

/** What a channel waits for, or why it failed; null if neither. */
export function describeWait(channel: ChannelStatus): string | null {
  const { detail, nextTryMs } = channel;
  const silentMs = silentMsOf(channel);
  if (silentMs !== null) {
    const seconds = Math.round(silentMs / 1000);
    return `silent for ${seconds} s: an answer is overdue; the peer's machine may be paused, hung or rebooting`;
  }
  const next = nextTryMs === null ? '' : `retrying in ${formatDuration(nextTryMs)}`;
  const parts = [detail === null ? '' : escapeText(detail, 512), next].filter((part) => part !== '');
  return parts.length === 0 ? null : parts.join('; ');
}

/** The name and program of a peer, as it sent them; not escaped. */
export function describePeer({ peer: { name, agent } }: SessionStatus): string {
  return name === null ? agent : `${name} (${agent})`;
}

/** Whether a session is authenticated and encrypted, short enough for a table. */
function describeProtection({ key, tls }: SessionStatus): string {
  return [key === null ? [] : [`key ${key}`], tls === null ? [] : [`tls=${tls}`]].flat().join(' ') || 'none';
}

/** Everything known about a channel, a line for each fact. */
export function formatChannel(channel: ChannelStatus, paint: Paint = paintNothing): string[] {
  const { label, group, address, state, session, bufferBytes, history, totals } = channel;
  const wait = describeWait(channel);
  const facts: (readonly [string, string])[] = [
    ['channel', group === null ? label : `${label} of the group ${group}`],
    ['address', escapeText(address)],
    [
      'state',
      `${paint(state, toneOfState(state))} for ${formatAge(timeInState(channel))}${wait === null ? '' : `: ${wait}`}`,
    ],
    ...(session === null ? [] : describeSession(session)),
    ...(bufferBytes === null ? [] : [['socket buffer', formatBytes(bufferBytes)] as const]),
    ...describeTotals(totals),
    ...(history.sessions === 0 ? [] : [['sessions so far', String(history.sessions)] as const]),
    ...(totals.resumptions === 0 ? [] : [describeResumptions(totals)]),
    ...Object.entries(history.ends).map(([code, count]) => [`  ended ${escapeText(code)}`, String(count)] as const),
    ...history.recent.map(
      ({ at, ageMs, code, message }) =>
        [`  ${at}`, `${escapeText(message)} (${escapeText(code)}) after ${formatAge(ageMs)}`] as const,
    ),
  ];
  return formatFacts(facts, null);
}

/** The traffic so far, without what is zero. */
function describeTotals(totals: ChannelStatus['totals']): (readonly [string, string])[] {
  const { sentBytes, sentFrames, receivedBytes, receivedFrames, streamsOpened, streamsFailed } = totals;
  const { skippedBytes, stallMs } = totals;
  const facts: readonly (readonly [string, number, string])[] = [
    ['streams so far', streamsOpened, `${streamsOpened}, ${streamsFailed} failed`],
    ['sent', sentFrames, `${formatBytes(sentBytes)} in ${formatCount(sentFrames, 'frame')}`],
    ['received', receivedFrames, `${formatBytes(receivedBytes)} in ${formatCount(receivedFrames, 'frame')}`],
    ['skipped', skippedBytes, formatBytes(skippedBytes)],
    ['stalled', stallMs, formatDuration(stallMs)],
  ];
  return facts.flatMap(([what, amount, text]) => (amount === 0 ? [] : [[what, text] as const]));
}

function describeResumptions({ resumptions, resentBytes }: ChannelStatus['totals']): readonly [string, string] {
  return ['resumed', `${formatCount(resumptions, 'time')}, ${formatBytes(resentBytes)} resent`];
}

function describeSession(session: SessionStatus): (readonly [string, string])[] {
  const { peer, protocolVersion, integrity, key, tls, ageMs, roundTripMs, streams, sendCreditBytes, unwrittenBytes } =
    session;
  const services = peer.services.map((service) => escapeText(service)).join(', ');
  return [
    ['peer', escapeText(describePeer(session))],
    ['  offers', services === '' ? 'nothing' : services],
    ['session', `for ${formatAge(ageMs)}, protocol ${protocolVersion}, integrity ${integrity}`],
    ['  authenticated', key === null ? (tls === 'cert' ? 'by certificates' : 'no') : `by the key ${key}`],
    ['  encrypted', tls === null ? 'no' : `TLS 1.3 with ${tls === 'psk' ? 'the key' : 'certificates'}`],
    ['round trip', roundTripMs === null ? 'not measured yet' : formatDuration(roundTripMs)],
    ['streams', String(streams)],
    ['may send', formatBytes(sendCreditBytes)],
    ['unwritten', formatBytes(unwrittenBytes)],
  ];
}

/** `f3: listens on 127.0.0.1:9022 for ssh of vm1`. */
export function describeForward({ id, channel, direction, service, endpoint }: ForwardStatus): string {
  const where = escapeText(endpoint);
  const what = escapeText(service);
  return direction === 'outgoing'
    ? `${id}: listens on ${where} for ${what} of ${channel}`
    : `${id}: offers ${what} at ${where} to ${channel}`;
}

/** The identity of a process, its uptime, and its resource usage. */
export function formatProcess({ process, forwards, streams }: ControlStatus): string[] {
  const { name, pid, version, node, uptimeMs, memory, eventLoopDelay, logLevel } = process;
  const delay =
    eventLoopDelay === null
      ? ''
      : `, timers late by ${formatDuration(eventLoopDelay.meanMs)} (p99 ${formatDuration(eventLoopDelay.p99Ms)})`;
  return [
    `${name === null ? '' : `${escapeText(name)}: `}process ${pid}, ${escapeText(version)} on Node ${escapeText(node)}, up ${formatAge(uptimeMs)}`,
    `memory ${formatBytes(memory.residentBytes)} (heap ${formatBytes(memory.heapBytes)})${delay}`,
    `${formatCount(forwards, 'forward')}, ${formatCount(streams, 'stream')}, log level ${logLevel}`,
    ...describeHistory(process.machine).map(([what, when]) => `${what} ${when}`),
  ];
}
