/**
 * Two processes on one port: the second one reports it in one line, tries again, and has the port when the first one is
 * gone.
 */
import net from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { exclusivePort } from '../helpers/ports.js';
import { localServer } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { ESTABLISHED, spawnVproxy } from '../helpers/vproxy-process.js';

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  test(`a second process on a port waits with one line, and has it when the first one gets ${signal}`, async (t) => {
    const path = join(temporaryFolder(t), 'host.sock');
    const port = await exclusivePort(t);
    // As QEMU does between its socket and the port.
    await localServer(
      t,
      (socket: net.Socket) => {
        socket.pipe(port.input);
        port.output.pipe(socket);
      },
      { path },
    );
    const host = spawnVproxy(t, ['-c', `unix-connect:${path}`]);
    const start = () => spawnVproxy(t, ['-c', `virtserial-open:${port.path}`, '--no-storage'], { env: port.env });
    const first = start();
    await Promise.all([host.waitForLine(ESTABLISHED), first.waitForLine(ESTABLISHED)]);

    const second = start();
    await second.waitForLine(/another process has it open \(EBUSY\); trying again/);
    await eventually(() => port.refusedCount() >= 4, { what: 'more attempts' });
    t.false(host.lines.some((line) => /ended/.test(line)));
    const from = host.lines.length;
    first.kill(signal);
    await second.waitForLine(ESTABLISHED);
    await host.waitForLine(ESTABLISHED, { from });
    t.is(second.lines.filter((line) => line.includes('EBUSY')).length, 1, second.lines.join('\n'));
    t.is((await second.stop()).code, 0);
  });
}
