/** The other process of `byte-path.spec.ts`, as a thread: a proxy with a program at each of its forwards. */
import { once } from 'node:events';
import net from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { Proxy } from '../../lib/proxy/proxy.js';

const { address, messageBytes } = workerData as { readonly address: string; readonly messageBytes: number };
const tell = (what: 'ready' | 'received'): void => parentPort?.postMessage(what);

/** Reports each complete message. */
const server = net.createServer((socket) => {
  let receivedBytes = 0;
  socket.on('error', () => undefined);
  socket.on('data', (bytes) => {
    receivedBytes += bytes.length;
    for (; receivedBytes >= messageBytes; receivedBytes -= messageBytes) tell('received');
  });
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');

const proxy = new Proxy({
  agent: 'byte path peer',
  channels: [
    {
      address,
      forwards: [
        parseForwardSpec('incoming', `there:127.0.0.1:${(server.address() as net.AddressInfo).port}`),
        parseForwardSpec('outgoing', 'here:127.0.0.1:0'),
      ],
    },
  ],
});
const port = new Promise<number>((resolve) => {
  proxy.on('log', ({ event, fields }) => {
    if (event === 'listening') resolve(Number(/:(\d+)$/.exec(String(fields['endpoint']))?.[1]));
  });
});
await proxy.start();
const client = net.connect(await port, '127.0.0.1');
await once(client, 'connect');
client.on('error', () => undefined);

const message = Buffer.alloc(messageBytes, 'b');
parentPort?.on('message', (what: 'send' | 'stop') => {
  if (what === 'send') client.write(message);
  else void proxy.stop().then(() => process.exit(0));
});
tell('ready');
