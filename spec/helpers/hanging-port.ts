/** A TCP port at which connecting hangs: its program stands still and its queue is full. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import type { ExecutionContext } from 'ava';
import { eventually } from './eventually.js';

const PROGRAM = `
  const server = require('node:net').createServer();
  server.listen({ host: '127.0.0.1', port: 0, backlog: 1 }, () => console.log(server.address().port));
`;

/** The port. Program and sockets go when the test ends. */
export async function hangingPort(t: ExecutionContext): Promise<number> {
  const child = spawn(process.execPath, ['-e', PROGRAM], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const port = Number(String(line));
  child.kill('SIGSTOP');
  // Connections fill the queue until one is not answered any more.
  const sockets: net.Socket[] = [];
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
  });
  await eventually(
    () => {
      if (sockets.at(-1)?.connecting === true) return true;
      sockets.push(net.connect({ host: '127.0.0.1', port }).on('error', () => undefined));
      return false;
    },
    { intervalMs: 100, what: 'a full queue' },
  );
  return port;
}
