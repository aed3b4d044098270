/** The real program and the second implementation of the protocol on one channel, with programs at their ends. */
import { randomBytes } from 'node:crypto';
import type net from 'node:net';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { spawnVproxy, type VproxyProcess } from '../helpers/vproxy-process.js';
import { PythonPeer } from './python-peer.js';

export const MIB = 1024 * 1024;

export interface PairOptions {
  /** Which side listens for the channel. Default: the real program. */
  readonly listens?: 'vproxy' | 'peer';
  /** Appended to the real program's address of the channel. */
  readonly channelOptions?: string;
  readonly forwards?: readonly string[];
  readonly peer?: readonly string[];
}

export function vproxyOn(t: ExecutionContext, channel: string, forwards: readonly string[]): VproxyProcess {
  return spawnVproxy(t, ['-c', channel, '-vv', ...forwards]);
}

export function pair(t: ExecutionContext, options: PairOptions = {}) {
  const { listens = 'vproxy', channelOptions = '', forwards = [], peer = [] } = options;
  const path = join(temporaryFolder(t), 'channel');
  const [real, other] = listens === 'vproxy' ? ['unix-listen', 'unix-connect'] : ['unix-connect', 'unix-listen'];
  return {
    vproxy: vproxyOn(t, `${real}:${path}${channelOptions}`, forwards),
    peer: new PythonPeer(t, `${other}:${path}`, peer),
  };
}

export async function connectTo(t: ExecutionContext, vproxy: VproxyProcess, service: string): Promise<net.Socket> {
  const socket = localSocket(t, { host: '127.0.0.1', port: await vproxy.listeningPort(service) });
  return socket.on('error', () => undefined);
}

/** A target that reads to the end, and answers with `reply`. */
export async function answering(t: ExecutionContext, reply: Buffer): Promise<{ port: number; got: Promise<Buffer> }> {
  let port = 0;
  const got = new Promise<Buffer>((resolve, reject) => {
    void localServer(t, (socket) => {
      readToEnd(socket).then((bytes) => {
        resolve(bytes);
        socket.end(reply);
      }, reject);
    }).then((server) => {
      port = server.port;
    }, reject);
  });
  await eventually(() => port > 0);
  return { port, got };
}

/** Sends bytes to a service that echoes, and expects them back. */
export async function echoes(t: ExecutionContext, vproxy: VproxyProcess, service: string, size: number): Promise<void> {
  const bytes = randomBytes(size);
  const socket = await connectTo(t, vproxy, service);
  socket.end(bytes);
  t.true(bytes.equals(await readToEnd(socket)));
}
