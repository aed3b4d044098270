/**
 * The real command line that hostile peers connect to, with local programs of every kind as targets of its forwards.
 */
import { mkdirSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { residentBytes } from '../helpers/measures.js';
import { echo, localServer } from '../helpers/proxies.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { UdpProgram } from '../helpers/udp.js';
import { ENDED, VproxyProcess } from '../helpers/vproxy-process.js';
import type { Surroundings } from './case.js';

/** Like `t.teardown`, for something that several tests share. */
export type Teardown = Pick<ExecutionContext, 'teardown'>;

/**
 * The frames written in the session that warms the process up: buffers and compiled code have their final size
 * after it.
 */
const WARM_UP_FRAMES = 200;

/** A process, its surroundings, and its size at rest. */
export interface TargetProcess extends Surroundings {
  readonly vproxy: VproxyProcess;
  /** The channel's socket. */
  readonly path: string;
  readonly idleBytes: number;
}

/** Starts the process, or with its path vproxy-guest, and has one orderly session with it. */
export async function startTarget(
  t: Teardown,
  options: readonly string[] = [],
  guest?: string,
): Promise<TargetProcess> {
  const context = t as ExecutionContext;
  const folder = temporaryFolder(context);
  const taps = new Set<net.Socket>();
  const services: Readonly<Record<string, (socket: net.Socket) => void>> = {
    echo,
    deaf: (socket) => socket.pause(),
    // Speaks hybrid vsock, whose dialler waits for an answer: none comes.
    hang: (socket) => socket.resume(),
    tap: (socket) => {
      taps.add(socket.resume());
      socket.once('close', () => taps.delete(socket));
    },
    source: (socket) => {
      const write = (): void => {
        while (!socket.destroyed && socket.write(SOURCE));
      };
      socket.on('drain', write);
      write();
    },
  };
  for (const [name, handle] of Object.entries(services)) {
    await localServer(context, handle, { path: join(folder, name), backlog: 4096 });
  }
  // A file that cannot be written: the first rotation would replace a folder.
  const stuck = join(folder, 'stuck.log');
  mkdirSync(`${stuck}.1`);
  const forwards = ['echo', 'deaf', 'tap', 'source'].flatMap((name) => ['-i', `${name}:${join(folder, name)}`]);
  const datagrams = await UdpProgram.open(context);
  datagrams.forget();
  const path = join(folder, 'channel.sock');
  const words = ['-c', `unix-listen:${path}`, ...forwards, '-o', 'out:0', '-i', `gone:${join(folder, 'gone')}`];
  // A path through a socket.
  words.push('-i', `broken:${join(folder, 'echo', 'x')}`, ...options);
  const onlyHere = [
    ...['-i', `hang:vsock-mux:${join(folder, 'hang')}:1`, '-i', `stuck:file:${stuck},rotate=4K,keep=1`],
    ...['-i', 'sleep:exec:exec sleep 86400', '-i', `datagrams:udp:127.0.0.1:${datagrams.port}`],
  ];
  const vproxy =
    guest === undefined
      ? new VproxyProcess([...words, ...onlyHere])
      : new VproxyProcess([...words, '-i', `hang:${join(folder, 'hang')}`, '--allow-exec', '--info'], {
          program: [guest],
          hasDefaultControl: true,
        });
  context.teardown(() => vproxy.stop());
  await vproxy.waitForLine(/waiting for the peer/);
  const port = await vproxy.listeningPort('out');
  await warmUp(path);
  await vproxy.waitForLine(ENDED);
  return {
    vproxy,
    path,
    taps,
    idleBytes: residentBytes(vproxy.pid),
    dial: () => {
      const socket = net.connect(port, '127.0.0.1').on('error', () => undefined);
      context.teardown(() => socket.destroy());
      return socket;
    },
  };
}

const SOURCE = Buffer.alloc(65_536, 's');

async function warmUp(path: string): Promise<void> {
  const peer = await SocketPeer.established(path);
  for (let turn = 0; turn < WARM_UP_FRAMES; turn += 1) {
    await peer.ping();
    peer.send(0x80, 0, Buffer.alloc(131_072));
  }
  await peer.echo();
  await peer.ping();
  peer.close();
}
