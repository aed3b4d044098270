/** Peers that are slow, or silent: against processes whose clock runs faster than real time. */
import { once } from 'node:events';
import type net from 'node:net';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import type { ErrorCode } from '../../lib/errors.js';
import type { SocketPeer, SocketPeerOptions } from '../helpers/socket-peer.js';
import { ENDED, type VproxyProcess } from '../helpers/vproxy-process.js';

const { ACCEPT, DATA, GOAWAY, OPEN } = FRAME_TYPE;

/** The number of seconds of the process in a real one. */
export const SPEED = 20;

/** A second of the process. */
const SECOND_MS = 1000 / SPEED;

/** The surroundings of a slow case. */
export interface SlowWorld {
  readonly vproxy: VproxyProcess;
  /** Connects to the process's channel. */
  readonly connect: (options?: SocketPeerOptions) => SocketPeer;
  /** A local connection to the forward that leads to the peer's service `out`. */
  readonly dial: () => net.Socket;
}

/** A slow way of misbehaving. */
export interface SlowCase {
  readonly what: string;
  /** The channel is a TCP port, whose peers cannot be paused. Default: a unix socket. */
  readonly isTcp?: boolean;
  /** The code in the log. Null: none. */
  readonly code: ErrorCode | null;
  readonly act: (world: SlowWorld) => Promise<unknown>;
}

async function established(connect: SlowWorld['connect'], options: SocketPeerOptions = {}): Promise<SocketPeer> {
  const peer = connect(options);
  await once(peer.socket, 'connect');
  await peer.establish();
  return peer;
}

const closed = (socket: net.Socket): Promise<unknown> => new Promise((resolve) => socket.once('close', resolve));

export const SLOW_CASES: readonly SlowCase[] = [
  {
    // R-FLOW-9
    what: 'a frame at a byte a second',
    code: 'desync',
    act: async ({ connect, vproxy }) => {
      // A PONG must not get into the middle of the frame.
      const peer = await established(connect, { pongDelayMs: null });
      peer.sendOpen(1);
      const startedAt = performance.now();
      await peer.trickle(peer.frame(DATA, 1, Buffer.alloc(300)), SECOND_MS, () =>
        vproxy.lines.some((line) => ENDED.test(line)),
      );
      if (performance.now() - startedAt < 25 * SECOND_MS) throw new Error('it had more time');
    },
  },
  {
    what: 'a HELLO at some bytes a second',
    code: null,
    act: async ({ connect }) => {
      const peer = connect();
      const hello = peer.hello({ ack: await peer.otherNonce() });
      await peer.trickle(hello, SECOND_MS / 20, () => false);
      await peer.seen(/^SERVICES 0$/);
    },
  },
  {
    // R-STREAM-10
    what: 'no answer to an OPEN',
    code: 'open-timeout',
    act: async ({ connect, dial }) => {
      const peer = await established(connect);
      dial();
      await peer.seen(/^OPEN \d+ out$/);
      await peer.seen(/^RESET \d+ open-timeout$/);
      await peer.echo();
    },
  },
  {
    what: 'OPEN of a service that does not answer',
    code: 'connect-timeout',
    act: async ({ connect }) => {
      const peer = await established(connect);
      peer.send(OPEN, 1, { service: 'hang' });
      await peer.seen(/^REFUSE 1 connect-timeout$/);
      await peer.echo();
    },
  },
  {
    // R-LIVE-2
    what: 'nothing, on a channel where silence means that the peer is gone',
    isTcp: true,
    code: 'channel-silent',
    act: async ({ connect, vproxy }) => {
      await established(connect, { pongDelayMs: null });
      await vproxy.waitForLine(ENDED);
    },
  },
  {
    // R-LIVE-3
    what: 'GOAWAY shutdown, and keeps its streams open',
    code: 'shutdown',
    act: async ({ connect }) => {
      const peer = await established(connect);
      peer.sendOpen(1);
      await peer.seen(/^ACCEPT 1$/);
      peer.send(GOAWAY, 0, { code: 'shutdown', message: '', last: 0 });
      peer.sendOpen(3);
      await peer.seen(/^REFUSE 3 shutdown$/);
      await peer.seen(/^RESET 1 shutdown$/);
      await peer.seen(/^GOAWAY 0 shutdown$/);
    },
  },
  {
    what: 'no HELLO ever, while local programs wait for a session',
    code: 'no-session',
    act: async ({ connect, dial }) => {
      await once(connect().socket, 'connect');
      await closed(dial());
    },
  },
  {
    // R-CHANNEL-2
    what: 'nothing on seventeen connections, of which one goes, and a session on each of two more',
    code: 'channel-displaced',
    act: async ({ connect }) => {
      const silent = Array.from({ length: 16 }, connect);
      await Promise.all(silent.map(({ socket }) => once(socket, 'connect')));
      const first = new Promise((resolve) => void silent.map(({ socket }) => socket.once('close', resolve)));
      const oneMore = connect();
      await first;
      oneMore.close();
      const one = await established(connect);
      const isGone = closed(one.socket);
      const other = await established(connect);
      await isGone;
      await other.echo();
    },
  },
  {
    what: 'an ACCEPT, and then never credit nor anything',
    code: null,
    act: async ({ connect, dial }) => {
      const peer = await established(connect);
      dial();
      const { streamId } = await peer.seen(/^OPEN \d+ out$/);
      peer.send(ACCEPT, streamId);
      await peer.echo();
    },
  },
];
