/**
 * Peers that are slow on purpose, or silent. The processes' clock runs faster than real time, so that the tests do not
 * wait long.
 */
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { echo, localServer, localSocket } from '../helpers/proxies.js';
import { PROXY_PROGRAM } from '../helpers/proxy-program.js';
import { SocketPeer, type SocketPeerOptions } from '../helpers/socket-peer.js';
import { CHANNEL_LISTENING, spawnVproxy } from '../helpers/vproxy-process.js';
import { SLOW_CASES, type SlowCase, SPEED } from './slow-cases.js';

async function runSlow(t: ExecutionContext, { act, code, isTcp = false }: SlowCase): Promise<void> {
  const folder = temporaryFolder(t);
  await localServer(t, echo, { path: join(folder, 'echo') });
  await localServer(t, (socket) => void socket.resume(), { path: join(folder, 'hang') });
  const incoming = [`echo:${join(folder, 'echo')}`, `hang:vsock-mux:${join(folder, 'hang')}:1`];
  const path = join(folder, 'channel.sock');
  const channel = isTcp ? 'tcp-listen:127.0.0.1:0' : `unix-listen:${path}`;
  const program = { speed: SPEED, proxies: [{ channel, incoming, outgoing: ['out:0'] }] };
  const vproxy = spawnVproxy(t, [JSON.stringify(program)], { script: PROXY_PROGRAM });
  const port = await vproxy.listeningPort('out');
  await vproxy.waitForLine(/waiting for the peer on/);
  const address: net.NetConnectOpts = isTcp
    ? { host: '127.0.0.1', port: Number((await vproxy.waitForLine(CHANNEL_LISTENING))[1]) }
    : { path };
  const connect = (options: SocketPeerOptions = {}): SocketPeer => {
    const peer = new SocketPeer(address, options);
    t.teardown(() => peer.close());
    return peer;
  };
  const dial = (): net.Socket =>
    localSocket(t, { host: '127.0.0.1', port })
      .on('error', () => undefined)
      .resume();

  await act({ vproxy, connect, dial });
  if (code !== null) await vproxy.waitForLine(new RegExp(`\\(${code}\\)`));
  const good = connect();
  await good.establish();
  await good.echo();
  t.false(
    vproxy.lines.some((line) => line.includes('internal: ')),
    vproxy.lines.join('\n'),
  );
}

for (const slow of SLOW_CASES) {
  test(`a peer sends ${slow.what}: ${slow.code ?? 'nothing comes of it'}`, (t) => runSlow(t, slow));
}
