/** A stream to a service of the peer, on the connection that asks for it. */
import * as z from 'zod';
import { VproxyError } from '../../errors.js';
import type { MuxStream } from '../../session/mux-stream.js';
import { deferred } from '../../util/deferred.js';
import { joinStream } from '../join-stream.js';
import { upgradeRoute } from '../route.js';
import { yesOrNoText } from '../schemas/values.js';

/** What the `Upgrade` header says. */
export const STREAM_PROTOCOL = 'vproxy-stream';

/** The answer; `name` is that of the stream, by which the events tell how it ended. */
const switching = (name: string): string =>
  `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${STREAM_PROTOCOL}\r\nVproxy-Stream: ${name}\r\n\r\n`;

export const connectRoutes = [
  upgradeRoute({
    method: 'GET',
    path: '/v1/connect',
    summary: 'Opens a stream to a service; behind the answer the connection carries its bytes both ways',
    query: z.strictObject({
      service: z.string(),
      channel: z.string().optional().describe('The label of the channel; not needed where there is one only'),
      attached: yesOrNoText()
        .optional()
        .describe(
          'Whether the stream is reset when the connection is closed, and not only its direction ended; default false',
        ),
    }),
    protocol: STREAM_PROTOCOL,
    errors: [403, 404, 426, 503, 504],
    upgrade: async ({ proxy }, { query: { service, channel, attached = false }, signal }, socket) => {
      const stream = await proxy.connect(service, channel);
      const label = channel ?? proxy.listChannels()[0]?.label ?? '';
      await accepted(stream, signal, () => {
        socket.write(switching(`${label}/${stream.id}`));
        joinStream(stream, socket, { isAttached: attached });
      });
    },
  }),
];

/**
 * Calls `onAccept` in the moment in which the peer accepts, before anything else comes from it; resolved then. Rejects
 * with the peer's reason, and when nobody is there any more to be told.
 */
async function accepted(stream: MuxStream, signal: AbortSignal, onAccept: () => void): Promise<void> {
  const answer = deferred();
  const onGone = () => stream.destroy(new VproxyError('cancelled', 'the program that asked for the stream has gone'));
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
