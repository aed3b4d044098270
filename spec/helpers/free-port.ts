/** Ports for programs that cannot be asked which one they got. */
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';

/** A TCP port of `host`, an address of this machine, that was free a moment ago. */
export async function freePort(host = '127.0.0.1'): Promise<number> {
  const server = createServer().listen(0, host);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
