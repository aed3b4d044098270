/** Channels for people, as a table or one in full; a forward and a process in a line or a few. */

import type { ChannelStatus, ControlStatus, ForwardStatus, SessionStatus } from '../../lib/status/types.js';
import { escapeText } from '../../lib/util/escape.js';
import { type Paint, paintNothing, toneOfState } from './color.js';
import { formatAge, formatBytes, formatCount, formatDuration } from './print.js';
import { type Column, formatTable } from './table.js';

const COLUMNS: readonly Column[] = [
  { title: 'CHANNEL', leastWidth: 12 },
  { title: 'STATE', toneOf: toneOfState },
  { title: 'FOR', align: 'right' },
  { title: 'PEER', leastWidth: 12 },
  { title: 'RTT', align: 'right' },
  { title: 'STREAMS', align: 'right' },
  { title: 'SESSIONS', align: 'right' },
  { title: 'SENT', align: 'right' },
  { title: 'RECEIVED', align: 'right' },
  { title: 'AUTH' },
];

/** A table, and below it what channels without a session wait for. */
export function formatChannels(
  channels: readonly ChannelStatus[],
  width: number | null,
  paint: Paint = paintNothing,
): string[] {
  if (channels.length === 0) return ['There are no channels.'];
  const rows = channels.map(({ label, state, since, session, history, totals }) => [
    label,
    state,
    formatAge(Date.now() - Date.parse(since)),
    session === null ? '-' : describePeer(session),
    session === null || session.roundTripMs === null ? '-' : formatDuration(session.roundTripMs),
    String(session?.streams ?? 0),
    String(history.sessions),
    formatBytes(totals.sentBytes),
    formatBytes(totals.receivedBytes),
    session === null ? '-' : describeProtection(session),
  ]);
  const notes = channels.flatMap((channel) => {
    const note = describeWait(channel);
    return note === null ? [] : [`${channel.label}: ${note}`];
  });
  return [...formatTable(COLUMNS, rows, width, paint), ...(notes.length > 0 ? ['', ...notes] : [])];
}

/** What a channel waits for, or why it failed; null where there is nothing to say. */
export function describeWait({ detail, nextTryMs }: ChannelStatus): string | null {
  const next = nextTryMs === null ? '' : `next try in ${formatDuration(nextTryMs)}`;
  const parts = [detail === null ? '' : escapeText(detail, 512), next].filter((part) => part !== '');
  return parts.length === 0 ? null : parts.join('; ');
}

/** Name and program of a peer, as it sent them; not escaped. */
export function describePeer({ peer: { name, agent } }: SessionStatus): string {
  return name === null ? agent : `${name} (${agent})`;
}

/** Whether a session is authenticated and encrypted, in as few words as a table has room for. */
function describeProtection({ key, tls }: SessionStatus): string {
  return [key === null ? [] : [`key ${key}`], tls === null ? [] : [`tls=${tls}`]].flat().join(' ') || 'none';
}

/** All that is known of one channel, a line for each fact. */
export function formatChannel(channel: ChannelStatus, paint: Paint = paintNothing): string[] {
  const { label, group, address, state, since, session, bufferBytes, history, totals } = channel;
  const wait = describeWait(channel);
  const facts: (readonly [string, string])[] = [
    ['channel', group === null ? label : `${label} of the group ${group}`],
    ['address', escapeText(address)],
    [
      'state',
      `${paint(state, toneOfState(state))} for ${formatAge(Date.now() - Date.parse(since))}${wait === null ? '' : `: ${wait}`}`,
    ],
    ...(session === null ? [] : describeSession(session)),
    ...(bufferBytes === null ? [] : [['socket buffer', formatBytes(bufferBytes)] as const]),
    ['sent', `${formatBytes(totals.sentBytes)} in ${formatCount(totals.sentFrames, 'frame')}`],
    ['received', `${formatBytes(totals.receivedBytes)} in ${formatCount(totals.receivedFrames, 'frame')}`],
    ['skipped', formatBytes(totals.skippedBytes)],
    ['stalled', formatDuration(totals.stallMs)],
    ['streams so far', `${totals.streamsOpened}, ${totals.streamsFailed} failed`],
    ['sessions so far', String(history.sessions)],
    ...(totals.resumptions === 0 ? [] : [describeResumptions(totals)]),
    ...Object.entries(history.ends).map(([code, count]) => [`  ended ${escapeText(code)}`, String(count)] as const),
    ...history.recent.map(
      ({ at, ageMs, code, message }) =>
        [`  ${at}`, `${escapeText(message)} (${escapeText(code)}) after ${formatAge(ageMs)}`] as const,
    ),
  ];
  const width = Math.max(...facts.map(([name]) => name.length)) + 2;
  return facts.map(([name, value]) => `${name.padEnd(width)}${value}`);
}

function describeResumptions({ resumptions, resentBytes }: ChannelStatus['totals']): readonly [string, string] {
  return ['resumed', `${formatCount(resumptions, 'time')}, ${formatBytes(resentBytes)} sent again`];
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

// A forward in a line for people.

/** `f3: listens on 127.0.0.1:9022 for ssh of vm1`. */
export function describeForward({ id, channel, direction, service, endpoint }: ForwardStatus): string {
  const where = escapeText(endpoint);
  const what = escapeText(service);
  return direction === 'outgoing'
    ? `${id}: listens on ${where} for ${what} of ${channel}`
    : `${id}: offers ${what} at ${where} to ${channel}`;
}

/** Who it is, how long it runs, and what it uses. */
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
  ];
}
