/**
 * Both programs beside one that uploads more than its peer reads, and only then reads its answer, as a client of a server that
 * refuses early. Its socket must not be closed with unread input, which resets it (R-STREAM-9).
 */
import { once } from 'node:events';
import type net from 'node:net';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { temporaryFolder } from '../helpers/files.js';
import { localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';
import { AS_GUEST, buildGuest } from './build.js';

buildGuest();

/** More than sockets and a window hold. */
const UPLOAD = Buffer.alloc(2 ** 25, 'u');

/** Writes the upload, and resolves with the answer, once it has ended in order. */
async function upload(socket: net.Socket): Promise<string> {
  socket.pause();
  await new Promise<void>((resolve, reject) => {
    socket.write(UPLOAD, (error) => (error instanceof Error ? reject(error) : resolve()));
  });
  const answer = readToEnd(socket);
  socket.resume();
  await answer;
  socket.end();
  return String(await answer);
}

/** The program's socket, behind a forward of that sort, and the id of its stream at the peer. */
const SORTS = {
  'a target on TCP': async (t: ExecutionContext, options: object) => {
    const target = await localServer(t, () => undefined);
    const peer = await begin(t, ['-i', `x:${target.port}`], options);
    const connected = once(target, 'connection') as Promise<[net.Socket]>;
    peer.sendOpen(1, 'x');
    await peer.seen(/^ACCEPT 1$/);
    return { peer, id: 1, socket: (await connected)[0] };
  },
  'a program that connects to a unix socket': async (t: ExecutionContext, options: object) => {
    const path = join(temporaryFolder(t), 'x.sock');
    const peer = await begin(t, ['-o', `x:unix:${path}`], options);
    const socket = localSocket(t, path);
    const { streamId: id } = await peer.seen(/^OPEN /);
    peer.send(FRAME_TYPE.ACCEPT, id);
    return { peer, id, socket };
  },
};

async function begin(t: ExecutionContext, args: readonly string[], options: object): Promise<SocketPeer> {
  const path = join(temporaryFolder(t), 'channel.sock');
  await spawnVproxy(t, ['-c', `unix-listen:${path}`, ...args], options).waitForLine(/waiting for the peer/);
  const peer = await SocketPeer.established(path);
  t.teardown(() => peer.close());
  return peer;
}

for (const [program, options] of [
  ['vproxy', {}],
  ['vproxy-guest', AS_GUEST],
] as const) {
  for (const [sort, open] of Object.entries(SORTS)) {
    serialTestWith('go')(`${program}: ${sort} gets the answer sent before its upload has ended`, async (t) => {
      const { id, peer, socket } = await open(t, options);
      const answer = upload(socket);
      await eventually(() => peer.texts().some((text) => text.startsWith(`DATA ${id}`)));
      peer.send(FRAME_TYPE.STOP, id, { code: 'cancelled', message: 'reads no more' });
      await peer.seen(new RegExp(`^FIN ${id}$`));
      peer.sendData(id, 'too large');
      peer.send(FRAME_TYPE.FIN, id);
      t.is(await answer, 'too large');
      await once(socket, 'close');
      t.is(socket.errored, null);
    });
  }
}
