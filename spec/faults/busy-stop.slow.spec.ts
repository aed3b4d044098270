/** SIGTERM in the middle of everything: the process is gone within a second, whatever it was doing. */
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { openDescriptors, stopwatch } from '../helpers/measures.js';
import { hangingPort } from '../helpers/ports.js';
import { processPair } from '../helpers/process-pair.js';
import { localServer, localSocket } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import type { VproxyProcess } from '../helpers/vproxy-process.js';

/** It ends in order within a second of SIGTERM, but for what it waited for a processor. */
async function endsInTime(t: ExecutionContext, vproxy: VproxyProcess): Promise<void> {
  const tookMs = stopwatch(vproxy.pid);
  const looks = setInterval(tookMs, 5);
  vproxy.kill('SIGTERM');
  t.deepEqual(await vproxy.exited, { code: 0, signal: null });
  clearInterval(looks);
  t.true(tookMs() < 1000, `${tookMs()} ms`);
}

for (const first of ['host', 'guest'] as const) {
  test.serial(
    `the ${first} ends in time with streams that nobody reads, dials that hang, and storage calls that wait`,
    async (t) => {
      const deaf = await localServer(t, (socket) => {
        socket.pause();
        socket.write(Buffer.alloc(4_000_000));
      });
      const storage = join(temporaryFolder(t), 'storage.sock');
      const pair = await processPair(t, {
        host: ['-o', 'deaf:0', '-o', 'hangs:0'],
        guest: ['-i', `deaf:${deaf.port}`, '-i', `hangs:${await hangingPort(t)}`, '--storage-socket', storage],
      });
      const before = openDescriptors(pair.guest.pid);
      const call = localSocket(t, storage).on('error', () => undefined);
      call.write('{"argv":["/opt/storcli64","/c0","show"]}\n');
      for (const [service, count] of [
        ['deaf', 50],
        ['hangs', 5],
      ] as const) {
        const port = await pair.host.listeningPort(service);
        for (let index = 0; index < count; index += 1) {
          const socket = localSocket(t, port).on('error', () => undefined);
          socket.write(Buffer.alloc(4_000_000));
        }
      }
      await eventually(() => openDescriptors(pair.guest.pid) === before + 56, { what: 'all connections' });
      await endsInTime(t, pair[first]);
    },
  );
}
