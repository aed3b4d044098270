/** A channel of a vproxy that runs: its session, its peer, and what became of earlier ones. */
import { connectControl } from '../../../lib/control/client/client.js';
import type { ChannelStatus, SessionStatus } from '../../../lib/status/types.js';
import { escapeText } from '../../../lib/util/escape.js';
import { formatAge } from '../../ui/print.js';
import { type Finding, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import type { RunningChannel } from '../running.js';

/** The part of a check's time for the answer to a ping. */
const PING_PART = 0.75;

/** An opening that is not older may be one of a row, in milliseconds. */
const BRIEF_MS = 2000;

/** A row is this number of sessions, each shorter than this, in milliseconds. */
const ROW = 3;
const SHORT_MS = 10_000;

/** The offset from which clocks are said to differ, in milliseconds. */
const CLOCK_MS = 5000;

/** What the process says, and whether its peer answers now. */
export async function checkSession(machine: Machine, { vproxy, channel }: RunningChannel): Promise<Finding[]> {
  const { session } = channel;
  const { nowMs } = machine.options;
  const shortOnes = unsteady(channel, nowMs);
  if (session === null) return [describeNone(vproxy.events, channel, nowMs), ...shortOnes];
  const facts = describePeer(session);
  if (channel.state === 'suspended') {
    const detail = channel.detail === null ? '' : `: ${escapeText(channel.detail)}`;
    return [finding('session-suspended', `${facts}${detail}`)];
  }
  const roundTripMs = await ping(vproxy.path, channel.label, machine.timeFor(PING_PART));
  return [
    roundTripMs === null
      ? finding('peer-silent', `${facts}, and does not answer a ping`)
      : finding('session-up', `${facts}, round trip ${roundTripMs.toFixed(1)} ms`),
    ...describeClock(session),
    ...describeResume(session),
    ...describeVersion(session, vproxy.status.process.version),
    ...missingServices(channel, session, vproxy.forwards),
    ...(shortOnes.length > 0 ? shortOnes : lastEnd(channel)),
  ];
}

type Events = RunningChannel['vproxy']['events'];
type Forwards = RunningChannel['vproxy']['forwards'];

function describePeer({ peer, ageMs, protocolVersion, key, tls }: SessionStatus): string {
  const name = peer.name === null ? '' : ` called ${escapeText(peer.name, 80)}`;
  const proof = [...(key === null ? [] : [`key ${key}`]), ...(tls === null ? [] : [`tls=${tls}`])];
  const protection = proof.length === 0 ? '' : `, ${proof.join(', ')}`;
  return `a session for ${formatAge(ageMs)} with ${escapeText(peer.agent, 80)}${name} (protocol ${protocolVersion}${protection})`;
}

function describeResume({ resume: { here, peer } }: SessionStatus): Finding[] {
  if (here === peer) return [];
  return [
    finding('resume-one-sided', `resume= is set ${here ? 'here, and not at the peer' : 'at the peer, and not here'}`),
  ];
}

function describeNone(events: Events, channel: ChannelStatus, nowMs: number): Finding {
  const { state, detail, since } = channel;
  const code = lastCode(events, channel);
  // A channel that is tried again and again is seen while it is tried, too.
  const isTried = state === 'opening' && code !== null && nowMs - Date.parse(since) < BRIEF_MS;
  const reason = state === 'opening' && !isTried ? null : code;
  const advice = reason === null ? null : adviceForCode(reason);
  const shown = `${state}${detail === null ? '' : `: ${escapeText(detail)}`}`;
  const message = `no session, ${shown}${reason === null ? '' : ` (${escapeText(reason, 64)})`}`;
  if (state === 'auth-failed') return finding('session-auth', message);
  if (state === 'opening' ? !isTried : isQuiet(events, channel)) return finding('session-unanswered', message);
  const id = state === 'failed' ? 'session-failed' : 'session-waiting';
  return advice === null ? finding(id, message) : finding(id, message, advice);
}

/** The code with which the channel could not be opened last. */
function lastCode(events: Events, channel: ChannelStatus): string | null {
  const code = eventsOf(events, channel).findLast(({ fields }) => 'code' in fields)?.fields['code'];
  return typeof code === 'string' ? code : null;
}

/** Whether the channel is open, and has waited in vain for the first answer on it. */
function isQuiet(events: Events, channel: ChannelStatus): boolean {
  return channel.state === 'waiting' && 'skippedBytes' in (eventsOf(events, channel).at(-1)?.fields ?? {});
}

const eventsOf = (events: Events, { label }: ChannelStatus) =>
  events.filter(({ event, fields }) => fields['channel'] === label && event.startsWith('channel-'));

/** Several sessions in a row that ended soon, none of them long ago. */
function unsteady({ history }: ChannelStatus, nowMs: number): Finding[] {
  const row = history.recent.slice(0, ROW);
  const isRecent = (at: string): boolean => nowMs - Date.parse(at) < ROW * 60_000;
  if (row.length < ROW || !row.every(({ ageMs, at }) => ageMs < SHORT_MS && isRecent(at))) return [];
  const codes = [...new Set(row.map(({ code }) => escapeText(code, 64)))];
  const advice = row.map(({ code }) => adviceForCode(code)).find((text) => text !== null);
  const message = `the last ${ROW} sessions ended within ${SHORT_MS / 1000} s of their beginnings (${codes.join(', ')})`;
  return [finding('session-unsteady', message, ...(advice === undefined ? [] : [advice]))];
}

function lastEnd({ history }: ChannelStatus): Finding[] {
  const [last] = history.recent;
  if (last === undefined || last.code === 'shutdown') return [];
  const message = `the session before ended at ${last.at}: ${escapeText(last.message)} (${escapeText(last.code, 64)})`;
  return [finding('session-ended', message, adviceForCode(last.code))];
}

/** The time that a message takes on its way makes a clock seem slow, but not by that much. */
function describeClock({ clockOffsetMs, ageMs }: SessionStatus): Finding[] {
  if (clockOffsetMs === null || Math.abs(clockOffsetMs) < CLOCK_MS) return [];
  const way = clockOffsetMs > 0 ? 'ahead of' : 'behind';
  const when = `when the session began or the peer’s services changed, at most ${formatAge(ageMs)} ago`;
  return [
    finding(
      'peer-clock',
      `the clock of the peer was ${formatAge(Math.abs(clockOffsetMs))} ${way} the one here ${when}`,
    ),
  ];
}

function describeVersion({ peer }: SessionStatus, own: string): Finding[] {
  if (peer.agent === own) return [];
  return [finding('peer-version', `the peer is ${escapeText(peer.agent, 80)}, and this side ${escapeText(own, 80)}`)];
}

function missingServices({ label }: ChannelStatus, { peer }: SessionStatus, forwards: Forwards): Finding[] {
  const asked = forwards.filter(
    ({ channel, direction, service }) => channel === label && direction === 'outgoing' && service !== '*',
  );
  const missing = [...new Set(asked.map(({ service }) => service))].filter(
    (service) => !peer.services.includes(service),
  );
  return missing.map((service) =>
    finding(
      'service-missing',
      `the peer offers no ${service}, for which a forward listens here`,
      `give the peer -i ${service}:…`,
    ),
  );
}

async function ping(path: string, channel: string, timeoutMs: number): Promise<number | null> {
  try {
    return (await connectControl(path).ping({ channel, signal: AbortSignal.timeout(timeoutMs) })).roundTripMs;
  } catch {
    return null;
  }
}

/** What people can do about the code with which a channel or its session failed. docs/errors.md says what each means. */
const ADVICE: Readonly<Record<string, string>> = {
  'channel-missing': 'start the VM, or correct the path or the name of the channel',
  'channel-busy': 'end the other program that has the channel open',
  'channel-refused': 'start what listens at the other end of the channel',
  'channel-failed': 'vproxy events -v has what the system said',
  'channel-closed': 'look why the other end closes the channel: has its VM or its vproxy ended?',
  'channel-silent': 'look whether the other machine is up; --dead-after gives it more time',
  'channel-displaced': 'let one process only connect to this channel',
  'channel-unusable': 'correct the channel: what is there can be none',
  'channel-denied': 'run vproxy as a user who may open the channel, or as root',
  'address-in-use': 'end the process that listens there, or choose another address',
  'auth-failed': 'give both sides the same key with --key FILE, and the same tls=',
  'version-mismatch': 'upgrade the older side',
  desync: 'nothing after a restart; if it goes on, look who else reads or writes the channel',
  'peer-restarted': 'nothing, if it was meant to be restarted; else look why it ends',
  'protocol-error': 'make both sides the same version; if they are, report it',
  'flow-control': 'make both sides the same version; if they are, report it',
  flood: 'look what opens that many connections at the other side',
  internal: 'report it, with the log of vproxy -vv',
};

/** Null for a code about which nothing is known. */
function adviceForCode(code: string): string | null {
  return ADVICE[code] ?? null;
}
