/** Opens streams to services of a peer for commands; in a terminal they show what they wait for. */
import { fstatSync } from 'node:fs';
import { connectService, type ServiceSocket, ServiceStream } from '../../lib/control/client/connect-service.js';
import { getValue } from '../../lib/control/client/plain-http.js';
import { VproxyError } from '../../lib/errors.js';
import type { ChannelStatus } from '../../lib/status/types.js';
import { escapeText } from '../../lib/util/escape.js';
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
}

/** Resolves when the peer has accepted the stream. Rejects like `findSocket` and `connectService`. */
export const openService = async (request: ServiceRequest): Promise<ServiceStream> =>
  new ServiceStream(await openServiceSocket(request));

/** As `openService`. */
export async function openServiceSocket(request: ServiceRequest): Promise<ServiceSocket> {
  const { service, channel, isAttached = false } = request;
  const path = await findSocket(request);
  try {
    const opened = connectService(path, service, channel, { isAttached });
    return await showWait(() => describeWait(path, channel), opened);
  } catch (error) {
    if (!(error instanceof VproxyError) || error.code !== 'no-session') throw error;
    throw new VproxyError(error.code, `${error.message}; see ${doctorFor(request)}`, { cause: error });
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
