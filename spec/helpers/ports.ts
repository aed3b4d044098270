/** Ports and sockets that a test could not have otherwise: free, busy and hanging ones, and pairs. */

import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import net, { createServer } from 'node:net';
import type { ExecutionContext } from 'ava';
import { eventually } from './time.js';

/** From here up to the ephemeral ports there are thousands without an assigned use. */
const FIRST_PORT = 10_240;

/**
 * A TCP port of `host`, an address of this machine, that was free a moment ago. It is below the ephemeral ports: no outgoing
 * connection and no server on port 0 takes it meanwhile.
 */
export async function freePort(host = '127.0.0.1'): Promise<number> {
  const [end = ''] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').split(/\s/);
  for (;;) {
    const port = randomInt(FIRST_PORT, Math.max(Number(end), 2 * FIRST_PORT));
    const server = createServer().listen(port, host);
    try {
      await once(server, 'listening');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') continue;
      throw error;
    }
    server.close();
    await once(server, 'close');
    return port;
  }
}

// A virtio-serial port that one process can have open, without a VM: a pseudo-terminal, and in the process the kernel's error
// for a second open (EBUSY). Only a real port gives that error by itself; spec/vm has one.

// A TCP port on which connecting hangs: its program is stopped and its backlog is full.

const PROGRAM = `
  const server = require('node:net').createServer();
  server.listen({ host: '127.0.0.1', port: 0, backlog: 1 }, () => console.log(server.address().port));
`;

/** The port. Program and sockets end with the test. */
export async function hangingPort(t: ExecutionContext): Promise<number> {
  const child = spawn(process.execPath, ['-e', PROGRAM], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const port = Number(String(line));
  child.kill('SIGSTOP');
  // Connections fill the backlog until one gets no answer.
  const sockets: net.Socket[] = [];
  t.teardown(() => sockets.forEach((socket) => socket.destroy()));
  // Two checks in a row: on a busy machine the first may come before an answer of the system is seen.
  let unansweredLooks = 0;
  await eventually(
    () => {
      unansweredLooks = sockets.at(-1)?.connecting === true ? unansweredLooks + 1 : 0;
      if (unansweredLooks > 0) return unansweredLooks > 1;
      sockets.push(net.connect({ host: '127.0.0.1', port }).on('error', () => undefined));
      return false;
    },
    { intervalMs: 100, what: 'a full queue' },
  );
  return port;
}
