/** Routes that open a stream to a service of the peer on their connection, and that report how it ended. */
import { toVproxyError, VproxyError } from '../../errors.js';
import type { MuxStream } from '../../session/mux-stream.js';
import { streamEndSchema } from '../../status/schemas.js';
import * as z from '../../status/zod.js';
import { deferred } from '../../util/concurrency.js';
import { labelOf } from '../context/context.js';
import { joinStream } from '../context/join-stream.js';
import { jsonRoute, upgradeRoute } from './route.js';
import { numberText, onlyChannel, yesOrNoText } from './values.js';

/** The value of the `Upgrade` header. */
export const STREAM_PROTOCOL = 'vproxy-stream';

/** The answer, with the name of the stream in events, and the path that reports how the stream ended. */
const switching = (name: string, end: number): string =>
  [
    'HTTP/1.1 101 Switching Protocols',
    'Connection: Upgrade',
    `Upgrade: ${STREAM_PROTOCOL}`,
    `Vproxy-Stream: ${name}`,
    `Vproxy-End: /v1/connect/${end}`,
    '\r\n',
  ].join('\r\n');

export const connectRoutes = [
  upgradeRoute({
    request: 'GET /v1/connect',
    operation: 'connect',
    summary: 'Opens a stream to a service; after the answer the connection carries its data both ways',
    query: z.strictObject({
      service: z.string(),
      channel: onlyChannel(),
      attached: yesOrNoText()
        .optional()
        .describe('Whether closing the connection resets the stream instead of half-closing it; default false'),
    }),
    protocol: STREAM_PROTOCOL,
    errors: [403, 404, 426, 503, 504],
    upgrade: async ({ proxy, ends }, { query: { service, channel, attached = false }, signal }, socket) => {
      const stream = await proxy.openStream(service, channel);
      const label = labelOf(proxy, channel);
      await accepted(stream, signal, () => {
        const { id } = stream;
        const end = ends.add();
        // Record the end before the connection closes: a client that sees it close may ask at once.
        stream.once('close', () => ends.end(end, stream.errored && describeReset(stream, id, stream.errored)));
        socket.write(switching(`${label}/${id}`, end));
        joinStream(stream, socket, { isAttached: attached });
      });
    },
  }),
  jsonRoute({
    request: 'GET /v1/connect/{id}',
    operation: 'getStreamEnd',
    summary: 'How the stream of a connection ended; the path is Vproxy-End in the answer that opened it',
    params: z.strictObject({ id: numberText(9_999_999_999) }),
    answer: streamEndSchema,
    errors: [404],
    handle: ({ ends }, { params: { id } }) => ends.find(id),
  }),
];

function describeReset({ service }: MuxStream, id: number, error: Error): VproxyError {
  const { code, message } = toVproxyError(error, 'cancelled');
  return new VproxyError(code, `stream ${id} to ${service} was reset: ${message} (${code})`);
}

/**
 * Calls `onAccept` when the peer accepts, before anything else is received from it, and resolves. Rejects with the peer's
 * reason, and when `signal` is aborted.
 */
async function accepted(stream: MuxStream, signal: AbortSignal, onAccept: () => void): Promise<void> {
  const answer = deferred();
  const onGone = () =>
    stream.destroy(new VproxyError('cancelled', 'the program that requested the stream has disconnected'));
  const onError = (error: Error) => answer.reject(error);
  stream.once('error', onError).once('connect', () => {
    onAccept();
    answer.resolve();
  });
  signal.addEventListener('abort', onGone);
  if (signal.aborted) onGone();
  try {
    await answer.promise;
  } finally {
    signal.removeEventListener('abort', onGone);
    stream.off('error', onError);
  }
}
