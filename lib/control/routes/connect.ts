/** Routes that open a stream to a service of the peer on their connection, and that report how it ended. */
import { acceptedStream } from '../../peer.js';
import { streamEndSchema } from '../../status/schemas.js';
import * as z from '../../status/zod.js';
import { onAbort } from '../../util/concurrency.js';
import { labelOf } from '../context/context.js';
import { jsonRoute, upgradeRoute, WEB_SOCKET } from './route.js';
import { numberText, onlyChannel, yesOrNoText } from './values.js';

/** The value of the `Upgrade` header. */
export const STREAM_PROTOCOL = 'vproxy-stream';

/** Most processes never open one. */
export const webSockets = () => import('../server/web-sockets.js');

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
  upgradeRoute('GET /v1/connect', 'connect', {
    summary: 'Opens a stream to a service; after the answer the connection carries its data both ways',
    query: z.strictObject({
      service: z.string(),
      channel: onlyChannel(),
      attached: yesOrNoText()
        .optional()
        .describe('Whether closing the connection resets the stream instead of half-closing it; default false'),
      reopened: yesOrNoText()
        .optional()
        .describe('Whether the client opens it again when it is lost, so that an upgrade need not wait; default false'),
    }),
    protocols: [STREAM_PROTOCOL, WEB_SOCKET],
    errors: [403, 404, 426, 503, 504],
    upgrade: async (context, { query, request, signal }, socket) => {
      const { proxy } = context;
      const { service, channel, attached = false, reopened = false } = query;
      const label = labelOf(proxy, channel);
      if (request.headers.upgrade?.toLowerCase() === WEB_SOCKET) {
        const { acceptWebSocket, joinStream, requireSameOrigin } = await webSockets();
        requireSameOrigin(request);
        const stream = await proxy.openStream(service, channel, { isReopened: reopened, signal });
        const forget = onAbort(signal, () => stream.destroy());
        await acceptedStream(stream);
        const webSocket = await acceptWebSocket(request, socket, null, context);
        forget();
        joinStream(webSocket, stream, attached);
        return;
      }
      await proxy.joinStream(service, channel, {
        socket,
        isAttached: attached,
        isReopened: reopened,
        signal,
        onAccept: ({ id }, end) => void socket.write(switching(`${label}/${id}`, end)),
      });
    },
  }),
  jsonRoute('GET /v1/connect/{id}', 'getStreamEnd', {
    summary: 'How the stream of a connection ended; the path is Vproxy-End in the answer that opened it',
    params: z.strictObject({ id: numberText(9_999_999_999) }),
    answer: streamEndSchema,
    errors: [404],
    handle: ({ proxy }, { params: { id } }) => proxy.streamEnds.find(id),
  }),
];
