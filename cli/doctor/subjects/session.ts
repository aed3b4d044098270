/** A channel of a running vproxy: its session, its peer, and how earlier sessions ended. */
import { connectControl } from '../../../lib/control/client/client.js';
import { remedyFor } from '../../../lib/remedies.js';
import type { ChannelStatus, MachineInfo, SessionStatus } from '../../../lib/status/types.js';
import { escapeText } from '../../../lib/util/escape.js';
import { formatAge } from '../../ui/print.js';
import { type Finding, failure, finding, refusedOptions } from '../findings.js';
import type { Machine } from '../machine.js';
import type { RunningChannel } from '../running.js';

/** Share of a check's time for the answers to a ping, and to a question for facts. */
const PING_PART = 0.75;

/** An opening younger than this may be one of a series of retries, in milliseconds. */
const BRIEF_MS = 2000;

/** Sessions are unsteady if this many in a row were each shorter than this, in milliseconds. */
const ROW = 3;
const SHORT_MS = 10_000;

/** The smallest clock offset to report, in milliseconds. */
const CLOCK_MS = 5000;

/** Reports the state of the session, and whether the peer answers now. */
export async function checkSession(machine: Machine, { vproxy, channel }: RunningChannel): Promise<Finding[]> {
  const { session } = channel;
  const { nowMs } = machine.options;
  const shortOnes = unsteady(channel, nowMs);
  if (session === null) return [describeRefusal(channel) ?? describeNone(vproxy.events, channel, nowMs), ...shortOnes];
  const facts = describePeer(session);
  if (channel.state === 'suspended') {
    const detail = channel.detail === null ? '' : `: ${escapeText(channel.detail)}`;
    return [finding('session-suspended', `${facts}${detail}`)];
  }
  const timeMs = machine.timeFor(PING_PART);
  const [roundTripMs, info] = await Promise.all([
    ping(vproxy.path, channel.label, timeMs),
    session.peer.services.includes('info') ? askInfo(vproxy.path, channel.label, timeMs) : null,
  ]);
  return [
    roundTripMs === null
      ? finding('peer-silent', `${facts}, which does not answer a ping`)
      : finding('session-up', `${facts}, round trip ${roundTripMs.toFixed(1)} ms`),
    ...describeClock(session, info?.clock.offsetMs ?? null),
    ...refusedOptions('the peer', info?.history?.refusedOptions),
    ...describeResume(session),
    ...describeVersion(session, vproxy.status.process.version),
    ...missingServices(channel, session, vproxy.forwards),
    ...(shortOnes.length > 0 ? shortOnes : lastEnd(channel)),
  ];
}

type Events = RunningChannel['vproxy']['events'];
type Forwards = RunningChannel['vproxy']['forwards'];

function describePeer({ peer, ageMs, protocolVersion, key, tls }: SessionStatus): string {
  const name = peer.name === null ? '' : ` named ${escapeText(peer.name, 80)}`;
  const proof = [...(key === null ? [] : [`key ${key}`]), ...(tls === null ? [] : [`tls=${tls}`])];
  const protection = proof.length === 0 ? '' : `, ${proof.join(', ')}`;
  return `a session for ${formatAge(ageMs)} with ${escapeText(peer.agent, 80)}${name} (protocol ${protocolVersion}${protection})`;
}

function describeResume({ resume: { here, peer } }: SessionStatus): Finding[] {
  if (here === peer) return [];
  return [
    finding('resume-one-sided', `resume= is set ${here ? 'here, but not at the peer' : 'at the peer, but not here'}`),
  ];
}

/** Reports that one side refuses the other; null if neither does. The channel's detail ends with a remedy, maybe a special one. */
function describeRefusal({ state, detail, history }: ChannelStatus): Finding | null {
  const code = history.recent[0]?.code ?? '';
  const isRefused = state === 'auth-failed' || (state === 'opening' && code === 'version-mismatch');
  if (!isRefused || detail === null) return null;
  const message = `no session, ${state}: ${escapeText(detail, 1024)} (${escapeText(code, 64)})`;
  const found = failure('anything', code, message);
  return found.message === message ? { ...found, remedy: null } : found;
}

function describeNone(events: Events, channel: ChannelStatus, nowMs: number): Finding {
  const { state, detail, since } = channel;
  const code = lastCode(events, channel);
  // A channel that is being retried may be seen during an attempt.
  const isTried = state === 'opening' && code !== null && nowMs - Date.parse(since) < BRIEF_MS;
  const reason = state === 'opening' && !isTried ? null : code;
  const advice = reason === null ? null : remedyFor(reason);
  const shown = `${state}${detail === null ? '' : `: ${escapeText(detail)}`}`;
  const message = `no session, ${shown}${reason === null ? '' : ` (${escapeText(reason, 64)})`}`;
  if (state === 'opening' ? !isTried : isQuiet(events, channel)) return finding('session-unanswered', message);
  const id = state === 'failed' ? 'session-failed' : 'session-waiting';
  return advice === null ? finding(id, message) : finding(id, message, advice);
}

/** The code of the last failure to open the channel. */
function lastCode(events: Events, channel: ChannelStatus): string | null {
  const code = eventsOf(events, channel).findLast(({ fields }) => 'code' in fields)?.fields['code'];
  return typeof code === 'string' ? code : null;
}

/** Whether the channel is open, but nothing has answered on it. */
function isQuiet(events: Events, channel: ChannelStatus): boolean {
  return channel.state === 'waiting' && 'skippedBytes' in (eventsOf(events, channel).at(-1)?.fields ?? {});
}

const eventsOf = (events: Events, { label }: ChannelStatus) =>
  events.filter(({ event, fields }) => fields['channel'] === label && event.startsWith('channel-'));

/** What to do about an end; for a refusal that depends on the options of the channel. */
const adviceAfter = (code: string): string | null => (code === 'auth-failed' ? null : remedyFor(code));

/** Reports several short sessions in a row, if all are recent. */
export function unsteady({ history }: ChannelStatus, nowMs: number): Finding[] {
  const row = history.recent.slice(0, ROW);
  const isRecent = (at: string): boolean => nowMs - Date.parse(at) < ROW * 60_000;
  if (row.length < ROW || !row.every(({ ageMs, at }) => ageMs < SHORT_MS && isRecent(at))) return [];
  const codes = [...new Set(row.map(({ code }) => escapeText(code, 64)))];
  const advice = row.map(({ code }) => adviceAfter(code)).find((text) => text !== null);
  const message = `each of the last ${ROW} sessions ended within ${SHORT_MS / 1000} s (${codes.join(', ')})`;
  return [finding('session-unsteady', message, ...(advice === undefined ? [] : [advice]))];
}

function lastEnd({ history }: ChannelStatus): Finding[] {
  const [last] = history.recent;
  if (last === undefined || last.code === 'shutdown') return [];
  const message = `the previous session ended at ${last.at}: ${escapeText(last.message)} (${escapeText(last.code, 64)})`;
  return [finding('session-ended', message, adviceAfter(last.code))];
}

/** By the offset now, or else by what the session told when it began. */
function describeClock({ clockOffsetMs, ageMs, peer }: SessionStatus, nowMs: number | null): Finding[] {
  const offsetMs = nowMs ?? clockOffsetMs ?? 0;
  // Transit time makes a clock seem slow, but not by this much.
  if (Math.abs(offsetMs) < CLOCK_MS) return [];
  const way = `${formatAge(Math.abs(offsetMs))} ${offsetMs > 0 ? 'ahead of' : 'behind'} the one here`;
  const when = ` when the session began or the peer’s services changed, at most ${formatAge(ageMs)} ago`;
  const message = nowMs === null ? `the clock of the peer was ${way}${when}` : `the clock of the peer is ${way}`;
  if (!peer.services.includes('clock')) return [finding('peer-clock', message)];
  return [
    finding('peer-clock', message, 'see the log of the peer’s vproxy, which may not set the clock (docs/restore.md)'),
  ];
}

async function askInfo(path: string, channel: string, timeoutMs: number): Promise<MachineInfo | null> {
  try {
    return await connectControl(path).info({ channel, signal: AbortSignal.timeout(timeoutMs) });
  } catch {
    return null;
  }
}

/** vproxy and vproxy-guest are released together; another program has versions of its own. */
const RELEASE = /^vproxy(?:-guest)? (\S+)$/;

function describeVersion({ peer }: SessionStatus, own: string): Finding[] {
  const [theirs, ours] = [peer.agent, own].map((agent) => RELEASE.exec(agent)?.[1]);
  if (theirs === undefined || theirs === ours) return [];
  return [finding('peer-version', `the peer is ${escapeText(peer.agent, 80)}, this side is ${escapeText(own, 80)}`)];
}

function missingServices({ label }: ChannelStatus, { peer }: SessionStatus, forwards: Forwards): Finding[] {
  const asked = forwards.filter(
    ({ channel, direction, service }) => channel === label && direction === 'outgoing' && service !== '*',
  );
  const missing = [...new Set(asked.map(({ service }) => service))].filter(
    (service) => !peer.services.includes(service),
  );
  return missing.map((service) =>
    finding('service-missing', `the peer does not offer ${service}, for which a forward listens here`, {
      SERVICE: service,
    }),
  );
}

async function ping(path: string, channel: string, timeoutMs: number): Promise<number | null> {
  try {
    return (await connectControl(path).ping({ channel, signal: AbortSignal.timeout(timeoutMs) })).roundTripMs;
  } catch {
    return null;
  }
}
