/**
 * Does in a program what the command `vproxy` does: channels by address, forwards, and services that are functions of the
 * program. Both sides are in this process, to try it out; usually one is on the host and the other in its guest.
 *
 *     node dist/examples/proxy.js
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Proxy, parseForwardSpec, VproxyError } from 'vproxy';

const folder = mkdtempSync(join(tmpdir(), 'vproxy-example-'));
// On a real host this is the hypervisor's socket for the port of a guest, which opens `virtserial-open:/dev/virtio-ports/…`.
const socket = join(folder, 'vm1.sock');

// The guest offers a web server, which listens on its loopback only, and a service of its own.
const web = createServer((_request, response) => response.end('a page of the guest')).listen(0, '127.0.0.1');
await once(web, 'listening');
const address = web.address();
const webPort = address !== null && typeof address === 'object' ? address.port : 0;
const guest = new Proxy({
  agent: 'example-guest 1.0',
  channels: [
    {
      address: `unix-connect:${socket}`,
      name: 'vm1',
      forwards: [parseForwardSpec('incoming', `web:127.0.0.1:${webPort}`)],
    },
  ],
});
guest.serve('time', (stream) => stream.end(new Date().toISOString()));

// The host has a channel for each guest, and a port for the guest's web server.
const host = new Proxy({
  agent: 'example-host 1.0',
  channels: [
    { label: 'vm1', address: `unix-listen:${socket}`, forwards: [parseForwardSpec('outgoing', 'web:127.0.0.1:0')] },
  ],
});
host.on('log', ({ event, message }) => console.log(`${event}: ${message}`));

try {
  await host.start();
  await guest.start();
  const { label, session } = await host.waitFor({ label: 'vm1', service: 'web' }, 10_000);
  console.log(`${label} is ${session?.peer.name}, and offers: ${session?.peer.services.join(', ')}`);

  // Any program of the host can connect to this port.
  const [forward] = host.listForwards();
  const response = await fetch(`http://${forward?.endpoint}/`);
  console.log(`${forward?.spec} answers: ${await response.text()}`);

  // This program itself needs no port.
  const stream = await host.connect('time', 'vm1');
  stream.end();
  console.log(`the time over there: ${await text(stream)}`);

  // If the peer refuses a stream, `connect` rejects with the reason.
  await host.connect('ssh', 'vm1').catch((error: unknown) => {
    if (!(error instanceof VproxyError)) throw error;
    console.log(`refused: ${error.message} (${error.code})`);
  });
} finally {
  await Promise.all([host.stop(), guest.stop()]);
  web.close();
  rmSync(folder, { recursive: true });
}
