/** Opens streams to services of a peer for commands; in a terminal they show what they wait for. */
import { fstatSync } from 'node:fs';
import { connectService, type ServiceSocket, ServiceStream } from '../../lib/control/client/connect-service.js';
import { getValue } from '../../lib/control/client/plain-http.js';
import { VproxyError } from '../../lib/errors.js';
import type { ChannelStatus } from '../../lib/status/types.js';
import { escapeText } from '../../lib/util/escape.js';
import type { SilentChannel } from '../ui/waiting-line.js';
import { findSocket } from './find-process.js';

export interface ServiceRequest {
  /** `--socket` and `--name`. */
  readonly socket: string | undefined;
  readonly name: string | undefined;
  readonly service: string;
  /** The label of the channel; undefined: the only one. */
  readonly channel: string | undefined;
  /** See `connectService`. */
  readonly isAttached?: boolean;
  /** Whether not to report a silent channel. Default false. */
  readonly isQuiet?: boolean;
}

/** Resolves when the peer has accepted the stream. Rejects like `findSocket` and `connectService`. */
export const openService = async (request: ServiceRequest): Promise<ServiceStream> =>
  new ServiceStream(await openServiceSocket(request));

/** Like `openService`, but resolves with the socket. */
export async function openServiceSocket(request: ServiceRequest): Promise<ServiceSocket> {
  const { service, channel, isAttached = false, isQuiet = false } = request;
  const path = await findSocket(request);
  let byteCount = () => 0;
  const stop = isQuiet ? () => undefined : watchSilence(path, channel, () => byteCount());
  try {
    const opened = await showWait(
      () => describeWait(path, channel),
      connectService(path, service, channel, { isAttached }),
    );
    byteCount = () => 1 + opened.socket.bytesRead;
    opened.socket.once('close', stop);
    return opened;
  } catch (error) {
    stop();
    if (!(error instanceof VproxyError) || error.code !== 'no-session') throw error;
    throw new VproxyError(error.code, `${error.message}; see ${doctorFor(request)}`, { cause: error });
  }
}

/** After this long without a byte, in milliseconds, a command asks whether its channel is silent, and then this often. */
const ASK_AFTER_MS = 5000;
const ASK_AGAIN_MS = 500;

/**
 * Until the returned function is called, reports on stderr that a channel (undefined: any) is silent while `progress` returns
 * the same number, and that it answers again.
 */
export function watchSilence(path: string, channel: string | undefined, progress: () => number): () => void {
  let silent: SilentChannel | undefined;
  let seen = progress();
  let timer: NodeJS.Timeout | null = setTimeout(() => void look(), ASK_AFTER_MS).unref();
  async function look(): Promise<void> {
    const now = progress();
    if (now !== seen) silent?.tellEnd();
    else {
      if (silent === undefined) {
        silent = new (await import('../ui/waiting-line.js')).SilentChannel(path, channel);
        // Some commands exit as soon as they have their answer.
        process.once('exit', stop);
      }
      await silent.look();
    }
    seen = now;
    const waitMs = silent?.isTold === true ? ASK_AGAIN_MS : ASK_AFTER_MS;
    if (timer !== null) timer = setTimeout(() => void look(), waitMs).unref();
  }
  function stop(): void {
    if (timer === null) return;
    clearTimeout(timer);
    timer = null;
    if (progress() !== seen) silent?.tellEnd();
  }
  return stop;
}

/** Waits for `work` through a channel (undefined: any), and shows what it waits for. */
export async function waitThrough<T>(path: string, channel: string | undefined, work: Promise<T>): Promise<T> {
  let answers = 0;
  const stop = watchSilence(path, channel, () => answers);
  try {
    const value = await showWait(() => describeWait(path, channel), work);
    answers = 1;
    return value;
  } finally {
    stop();
  }
}

const STDERR_FD = 2;

/** Calls `showProgress`, but does not load it without a terminal: scripts call these commands often. */
async function showWait<T>(look: () => Promise<string | null>, opened: Promise<T>): Promise<T> {
  if (!fstatSync(STDERR_FD).isCharacterDevice()) return opened;
  // It may fail before `showProgress` is loaded.
  opened.catch(() => undefined);
  const { showProgress } = await import('../ui/waiting-line.js');
  return showProgress(look, opened);
}

/** A line with what a channel waits for: `waiting for vm1: /run/vm1.sock is missing`; null if not known. */
export async function describeWait(
  path: string,
  label: string | undefined,
  describeReady = ({ label }: ChannelStatus): string => `waiting for an answer of ${label}`,
): Promise<string | null> {
  const channels = await getValue<ChannelStatus[]>(path, '/v1/channels');
  const found =
    label === undefined && channels.length > 1 ? undefined : channels.find((one) => one.label === (label ?? one.label));
  if (found === undefined) return null;
  const { state, detail } = found;
  if (state === 'established') return describeReady(found);
  // An attempt is in progress; keep the previous line.
  if (detail === null) return null;
  // The path of a unix socket is enough.
  return `waiting for ${found.label}: ${escapeText(detail.replace(/^unix-connect:/, ''), 512)}`;
}

/** The command that finds the reason. */
function doctorFor({ socket, name }: ServiceRequest): string {
  const choice = socket === undefined ? (name === undefined ? '' : ` --name ${name}`) : ` --socket ${socket}`;
  return `vproxy doctor${escapeText(choice)}`;
}
