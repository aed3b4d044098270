/** Ports for programs that cannot pick one themselves. */
import { once } from 'node:events';
import net from 'node:net';

/** Below the range of ephemeral ports, so that no connecting socket takes it. */
const FIRST_PORT = 20_000;
const PORT_COUNT = 12_000;

/** A port of 127.0.0.1 on which nothing listens at the moment. */
export async function findFreePort(): Promise<number> {
  for (;;) {
    const port = FIRST_PORT + Math.floor(Math.random() * PORT_COUNT);
    const server = net.createServer();
    try {
      server.listen(port, '127.0.0.1');
      await once(server, 'listening');
      return port;
    } catch {
      // Taken: another one.
    } finally {
      server.close();
    }
  }
}
