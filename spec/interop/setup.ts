/** The real program and the second implementation of the protocol on one channel, with programs at their ends. */
import { randomBytes } from 'node:crypto';
import type net from 'node:net';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { deferred } from '../../lib/util/concurrency.js';
import { sha256, temporaryFolder } from '../helpers/files.js';
import { localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { serialTestWith } from '../helpers/test-with.js';
import { spawnVproxy, type VproxyProcess } from '../helpers/vproxy-process.js';
import { PythonPeer } from './python-peer.js';

export const withPython = serialTestWith('python');

export const MIB = 1024 * 1024;

/** Time limit of a transfer over many channels, in milliseconds. */
export const LONG_MS = 60_000;

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

/** A pair with a service `mirror` at the peer and `target` at the program; `transfer` sends bytes to both, each way. */
export async function transferring(t: ExecutionContext, byteCount: number, options: PairOptions = {}) {
  const [there, back] = [randomBytes(byteCount), randomBytes(byteCount)];
  const got = deferred<Buffer>();
  const target = await localServer(t, (socket) => {
    void readToEnd(socket).then(
      (bytes) => {
        got.resolve(bytes);
        socket.end(back);
      },
      (error: unknown) => got.reject(error as Error),
    );
  });
  const { vproxy, peer } = pair(t, {
    ...options,
    forwards: ['-o', 'mirror:0', '-i', `target:${target.port}`, ...(options.forwards ?? [])],
    peer: ['--service', 'mirror=mirror', ...(options.peer ?? [])],
  });
  /** Checks that everything arrives as sent, whatever `disturb` does meanwhile. */
  const transfer = async (disturb: () => void = () => undefined): Promise<void> => {
    const socket = await connectTo(t, vproxy, 'mirror');
    socket.end(there);
    peer.transfer('a', 'target', byteCount);
    const { key = '' } = await peer.next('opened', { service: 'mirror' });
    disturb();
    const mirrored = readToEnd(socket);
    const atPeer = peer.next('fin', { key }, LONG_MS);
    const ended = await peer.next('stream-ended', { key: 'a' }, LONG_MS);
    t.deepEqual([sha256(await mirrored), (await atPeer).receivedHash], [sha256(there), sha256(there)]);
    const { code, sent, receivedHash, sentHash } = ended;
    t.deepEqual([code, sent, receivedHash, sentHash], [null, byteCount, sha256(back), sha256(await got.promise)]);
  };
  return { vproxy, peer, transfer };
}

/** Sends bytes to a service that echoes, and expects them back. */
export async function echoes(t: ExecutionContext, vproxy: VproxyProcess, service: string, size: number): Promise<void> {
  const bytes = randomBytes(size);
  const socket = await connectTo(t, vproxy, service);
  socket.end(bytes);
  t.true(bytes.equals(await readToEnd(socket)));
}
