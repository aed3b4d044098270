/** WebSockets on connections of the control socket: the handshake, and what one carries. Loaded when the first is opened. */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex, Readable, Writable } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { badArgument, toVproxyError, VproxyError } from '../../errors.js';
import { isHungUp, unwrittenBytesOf } from '../../system/sockets/node-sockets.js';
import { MAX_TIMER_MS } from '../../util/clock.js';
import { escapeText } from '../../util/escape.js';
import { type ControlContext, type OpenWebSocket, RESTART } from '../context/context.js';

/** The longest message of a client, in bytes. */
const MAX_MESSAGE_BYTES = 1_048_576;

/** When this many bytes wait for the client, no more are taken for it. */
const MAX_WAITING_BYTES = 262_144;

/** How often it is looked whether a client has gone. */
const LOOK_MS = 1000;

/** How long a client may take to answer a close that was written, and how long an upgrade waits for one that reads nothing. */
const ANSWER_MS = 30_000;

/** RFC 6455, 5.5: a control frame has at most 125 bytes, and the code takes two. */
const MAX_REASON_BYTES = 123;

/** Codes of RFC 6455, 7.4.1. */
const [NORMAL, UNSUPPORTED, FAILED] = [1000, 1003, 1011] as const;

/** A WebSocket that was accepted. */
export interface AcceptedWebSocket extends OpenWebSocket {
  readonly socket: WebSocket;
  /** Whether its client has left: the rest of what it sent is read however little is taken. The buffer of the socket bounds it. */
  hasLeft: boolean;
}

/** Throws `denied` for a page of another origin: a browser lets any page open a WebSocket anywhere. */
export function requireSameOrigin({ headers: { host, origin } }: IncomingMessage): void {
  if (origin === undefined || (URL.canParse(origin) && new URL(origin).host === host?.toLowerCase())) return;
  throw new VproxyError('denied', `a WebSocket of the origin ${escapeText(origin, 80)}, which is not that of Host`);
}

/**
 * Answers the handshake. Rejects with `bad-argument`, without an answer, if it is wrong, and with `cancelled` if the client has
 * disconnected. `protocol`: the only subprotocol, chosen if the client offers it; null: none.
 */
export function acceptWebSocket(
  request: IncomingMessage,
  socket: Socket,
  protocol: string | null,
  context: ControlContext,
): Promise<AcceptedWebSocket> {
  const handleProtocols = (offered: Set<string>) => (protocol !== null && offered.has(protocol) ? protocol : false);
  // A variable: the types of ws lack closeTimeout.
  const options = {
    noServer: true,
    clientTracking: false,
    autoPong: false,
    closeTimeout: MAX_TIMER_MS,
    // One read may bring thousands of short messages: each is handled in its own turn.
    allowSynchronousEvents: false,
    maxPayload: MAX_MESSAGE_BYTES,
    perMessageDeflate: false,
    handleProtocols,
  };
  const server = new WebSocketServer(options);
  return new Promise((resolve, reject) => {
    server.once('wsClientError', ({ message }) => reject(badArgument(`WebSocket: ${message}`)));
    socket.once('close', () => reject(new VproxyError('cancelled', 'the client has disconnected')));
    server.handleUpgrade(request, socket, Buffer.alloc(0), (webSocket) => {
      // Followed by `close`.
      webSocket.on('error', () => undefined);
      // RFC 6455, 5.5.3: not each ping needs an answer.
      webSocket.on('ping', (bytes) => {
        if (webSocket.bufferedAmount < MAX_WAITING_BYTES) webSocket.pong(bytes);
      });
      const accepted = { socket: webSocket, hasEnded: false, isStill: false, hasLeft: false };
      watch(accepted, socket, context);
      resolve(accepted);
    });
  });
}

/** Finds out when a client has left while nothing is read from it, and ends the connection of one that does not answer a close. */
function watch(accepted: AcceptedWebSocket, socket: Socket, { clock, webSockets }: ControlContext): void {
  const { socket: webSocket } = accepted;
  webSockets.add(accepted);
  let answerMs = ANSWER_MS;
  let unwritten = 0;
  let stillMs = 0;
  const look = (): void => {
    if (webSocket.isPaused && isHungUp(socket)) {
      accepted.hasLeft = true;
      webSocket.resume();
    }
    const before = unwritten;
    unwritten = unwrittenBytesOf(socket) ?? 0;
    stillMs = unwritten > 0 && unwritten === before ? stillMs + LOOK_MS : 0;
    accepted.isStill = stillMs >= ANSWER_MS;
    const isWritten = socket.writableLength === 0 || !accepted.hasEnded;
    if (webSocket.readyState === webSocket.CLOSING && isWritten) answerMs -= LOOK_MS;
    if (answerMs < 0) socket.destroy();
    else cancel = clock.schedule(LOOK_MS, look);
  };
  let cancel = clock.schedule(LOOK_MS, look);
  socket.once('close', () => {
    webSockets.delete(accepted);
    cancel();
  });
}

/**
 * Carries messages to `input`, and `output` in binary messages, each no faster than it is taken. `onText` takes texts instead; a
 * string in `output` is sent as one.
 */
export function carry(
  accepted: AcceptedWebSocket,
  input: Writable,
  output: Readable,
  onText?: (text: string) => void,
): void {
  const { socket } = accepted;
  const readOn = () => socket.resume();
  input.on('drain', readOn).once('close', readOn);
  socket.on('message', (bytes: Buffer, isBinary: boolean) => {
    if (!isBinary && onText !== undefined) onText(bytes.toString());
    else if (input.writable && !input.write(bytes) && !accepted.hasLeft) socket.pause();
  });
  // Nothing is held up for a client that has gone.
  socket.once('close', () => output.resume());
  output.on('data', (piece: Buffer | string) => {
    if (socket.readyState !== socket.OPEN) return;
    socket.send(piece, () => {
      if (socket.bufferedAmount < MAX_WAITING_BYTES) output.resume();
    });
    if (socket.bufferedAmount >= MAX_WAITING_BYTES) output.pause();
  });
}

/**
 * Carries a stream. The end of the stream closes the WebSocket, in order or because of its failure; a client that closes it ends its
 * direction of the stream, which is reset once more data comes for it, or at once if it `isAttached`.
 */
export function joinStream(accepted: AcceptedWebSocket, stream: Duplex, isAttached: boolean): void {
  const { socket } = accepted;
  carry(accepted, stream, stream);
  stream
    .once('stop', () => socket.resume())
    .once('end', () => closeWith(accepted))
    .once('close', () => (stream.errored === null ? closeWith(accepted) : failWith(accepted, stream.errored)));
  socket.once('close', () => {
    if (isAttached) stream.destroy();
    else
      stream
        .once('data', () => stream.destroy())
        .resume()
        .end();
  });
}

/** Closes in order, after what was sent. */
export function closeWith(accepted: AcceptedWebSocket, reason = ''): void {
  accepted.hasEnded = true;
  close(accepted, NORMAL, reason);
}

/** Closes because of a failure, with its code and message as the reason. */
export function failWith(accepted: AcceptedWebSocket, failure: unknown): void {
  const { code, message } = toVproxyError(failure);
  const status = code === 'shutdown' ? RESTART : code === 'bad-argument' ? UNSUPPORTED : FAILED;
  close(accepted, status, `${escapeText(code, 64)}: ${message}`);
}

function close({ socket }: AcceptedWebSocket, status: number, text: string): void {
  // The client's close frame may follow data that is no longer read.
  socket.resume();
  const reason = new Uint8Array(MAX_REASON_BYTES);
  // Cut between characters.
  const { written } = new TextEncoder().encodeInto(escapeText(text), reason);
  socket.close(status, Buffer.from(reason.subarray(0, written)));
}
