/** A stream to a service through a control socket: HTTP's `Upgrade`, and from then on the stream's bytes. */
import { answeredError, requestError } from './answered-error.js';
import { readHead, readRest, sendGet } from './plain-http.js';
import { ServiceStream } from './service-stream.js';

/** The protocol that the connection is upgraded to: nothing but the bytes, and half-close. */
const STREAM_PROTOCOL = 'vproxy-stream';

/** How a stream is opened. */
export interface ConnectOptions {
  /** Whether the stream is reset when this program ends, or destroys it; else that is an end of its direction. Default false. */
  readonly isAttached?: boolean;
}

/**
 * A stream to a service of the peer of a channel, which need not be named where there is one only; resolved when the peer
 * has accepted it. Rejects with the code of the answer, with `control-unavailable` or with `denied`.
 */
export async function connectService(
  socketPath: string,
  service: string,
  channel?: string,
  { isAttached = false }: ConnectOptions = {},
): Promise<ServiceStream> {
  const query = new URLSearchParams({
    service,
    ...(channel === undefined ? {} : { channel }),
    ...(isAttached ? { attached: 'true' } : {}),
  }).toString();
  const headers = ['Connection: Upgrade', `Upgrade: ${STREAM_PROTOCOL}`];
  const socket = sendGet(socketPath, `/v1/connect?${query}`, '1.1', headers);
  try {
    const { status, headers, rest } = await readHead(socket);
    if (status !== 101) throw answeredError(status, await readRest(socket, rest));
    if (rest.length > 0) socket.unshift(rest);
    return new ServiceStream(socket, socketPath, headers.get('vproxy-end') ?? '');
  } catch (error) {
    socket.destroy();
    throw requestError(socketPath, error);
  }
}
