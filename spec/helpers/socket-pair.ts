/** Two sockets that are connected to each other. */
import { once } from 'node:events';
import { createConnection, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { temporaryFolder } from './temp-folder.js';

/** Over a unix socket, with half-close. They go with the test. */
export async function socketPair(t: ExecutionContext): Promise<[Socket, Socket]> {
  const path = join(temporaryFolder(t), 'pair.sock');
  const server = createServer({ allowHalfOpen: true });
  await once(server.listen(path), 'listening');
  const dialled = createConnection({ path, allowHalfOpen: true });
  const [accepted] = (await once(server, 'connection')) as [Socket];
  server.close();
  t.teardown(() => {
    dialled.destroy();
    accepted.destroy();
  });
  return [dialled, accepted];
}
