/** The running vproxy processes, found by their control sockets, and the sockets on which none answers. */
import { statSync } from 'node:fs';
import type { ChannelAddress } from '../../lib/channel/address/address.js';
import { connectControl } from '../../lib/control/client/client.js';
import { systemCode, toVproxyError } from '../../lib/errors.js';
import type {
  ChannelStatus,
  ControlEvent,
  ControlStatus,
  EgressStatus,
  ForwardStatus,
} from '../../lib/status/types.js';
import { escapeText } from '../../lib/util/escape.js';
import { listControlSockets } from '../control-folders.js';
import { addressOfRunning } from '../run/find-rival.js';
import { type Finding, finding } from './findings.js';

/** A vproxy that answered. */
export interface RunningVproxy {
  readonly path: string;
  readonly status: ControlStatus;
  readonly forwards: readonly ForwardStatus[];
  readonly egress: readonly EgressStatus[];
  /** The last events, oldest first. */
  readonly events: readonly ControlEvent[];
}

/** Why there was no answer. `missing`: there is no such socket. */
export type Silence = 'missing' | 'stale' | 'silent' | 'denied';

export interface ControlSocket {
  readonly path: string;
  readonly running: RunningVproxy | null;
  /** Null if a vproxy answered. */
  readonly silence: Silence | null;
}

/** Maximum number of sockets to query, and of events to read from each. */
const MAX_SOCKETS = 64;
const MAX_EVENTS = 200;

/** Queries the control sockets of `folder` and `others`. Never rejects, and takes at most 1.5 times `timeoutMs`. */
export async function askControlSockets(
  folder: string | null,
  others: readonly string[],
  timeoutMs: number,
): Promise<ControlSocket[]> {
  const paths = new Set([...(folder === null ? [] : listSockets(folder)), ...others]);
  return Promise.all([...paths].slice(0, MAX_SOCKETS).map((path) => askControlSocket(path, timeoutMs)));
}

async function askControlSocket(path: string, timeoutMs: number): Promise<ControlSocket> {
  const control = connectControl(path);
  try {
    const status = await control.status(AbortSignal.timeout(timeoutMs));
    if (typeof (status as Partial<ControlStatus>).process?.pid !== 'number') {
      return { path, running: null, silence: 'silent' };
    }
    const signal = AbortSignal.timeout(Math.ceil(timeoutMs / 2));
    const [forwards, egress, events] = await Promise.all([
      control.forwards(signal).catch(() => []),
      // Older versions do not know egresses.
      control.egress(signal).catch(() => []),
      lastEvents(path, signal).catch(() => []),
    ]);
    return { path, running: { path, status, forwards, egress, events }, silence: null };
  } catch (error) {
    return { path, running: null, silence: silenceOf(error) };
  }
}

function silenceOf(error: unknown): Silence {
  const { code, cause } = toVproxyError(error);
  if (code === 'denied') return 'denied';
  const reason = systemCode(cause);
  if (reason === 'ENOENT') return 'missing';
  return reason === 'ECONNREFUSED' ? 'stale' : 'silent';
}

async function lastEvents(path: string, signal: AbortSignal): Promise<ControlEvent[]> {
  const events: ControlEvent[] = [];
  for await (const event of connectControl(path).events({ replay: MAX_EVENTS, follow: false, signal }))
    events.push(event);
  return events;
}

function listSockets(folder: string): string[] {
  return listControlSockets(folder).filter((path) => statSync(path, { throwIfNoEntry: false })?.isSocket() === true);
}

/** Formats `vproxy host1 (process 123)`, or `vproxy, process 123` for one without a name. */
export function formatRunning({ status }: RunningVproxy): string {
  const { name, pid } = status.process;
  return name === null ? `vproxy, process ${pid}` : `vproxy ${escapeText(name, 80)} (process ${pid})`;
}

export interface RunningChannel {
  readonly vproxy: RunningVproxy;
  readonly channel: ChannelStatus;
  /** Null for a form unknown to this version. */
  readonly address: ChannelAddress | null;
}

export function channelsOf(sockets: readonly ControlSocket[]): RunningChannel[] {
  const running = sockets.flatMap((socket) => socket.running ?? []);
  return running.flatMap((vproxy) =>
    vproxy.status.channels.map((channel) => ({ vproxy, channel, address: addressOfRunning(channel.address) })),
  );
}

/** Whether a process has its channel open, or listens for it, in this state. */
export const isHeld = (state: ChannelStatus['state']): boolean => state !== 'failed' && state !== 'backing-off';

/** The finding that a running vproxy has the requested thing; `does` completes the sentence. */
export const heldBy = (vproxy: RunningVproxy, does: string): Finding =>
  finding('held-by-vproxy', `${formatRunning(vproxy)} ${does}`);
