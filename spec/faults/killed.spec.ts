/** Either process is killed in the middle of transfers: each of them is complete, or a prefix followed by a reset. */
import test from 'ava';
import { processPair } from '../helpers/process-pair.js';
import { localServer, localSocket } from '../helpers/proxies.js';
import { within } from '../helpers/time.js';
import { MAX_TRANSFER_BYTES, type Outcome, outcomeOf, pattern } from '../helpers/traffic.js';
import { ENDED } from '../helpers/vproxy-process.js';

const ROUNDS = 5;
const TRANSFERS_AT_ONCE = 4;

for (const killed of ['host', 'guest'] as const) {
  test(`kill -9 of the ${killed} leaves no end of a transfer that looks whole and is not`, async (t) => {
    const far: Promise<Outcome>[] = [];
    // Each end sends the pattern and reads the other's.
    const target = await localServer(t, (socket) => {
      far.push(outcomeOf(socket));
      socket.end(pattern(MAX_TRANSFER_BYTES));
    });
    const pair = await processPair(t, { host: ['-o', 'x:0'], guest: ['-i', `x:${target.port}`] });
    for (let round = 0; round < ROUNDS; round += 1) {
      far.length = 0;
      const killAtBytes = Math.floor(Math.random() * MAX_TRANSFER_BYTES * TRANSFERS_AT_ONCE);
      const port = await pair.host.listeningPort('x');
      const near = Array.from({ length: TRANSFERS_AT_ONCE }, () => localSocket(t, { host: '127.0.0.1', port }));
      const outcomes = near.map((socket) => outcomeOf(socket));
      const victim = pair[killed];
      const survivor = killed === 'host' ? pair.guest : pair.host;
      const from = survivor.lines.length;
      let receivedBytes = 0;
      for (const socket of near) {
        socket.on('data', (chunk: Buffer) => {
          receivedBytes += chunk.length;
          if (receivedBytes >= killAtBytes) victim.kill('SIGKILL');
        });
        socket.end(pattern(MAX_TRANSFER_BYTES));
      }
      const results = { near: await Promise.all(outcomes), far: [] as Outcome[] };
      victim.kill('SIGKILL');
      await within(5000, 'the end of the victim', victim.exited);
      results.far = await Promise.all(far);
      const what = JSON.stringify({ round, killAtBytes, results });
      for (const { isPrefix } of [...results.near, ...results.far]) t.true(isPrefix, what);
      // The system ends the victim's own sockets in either way; the survivor has to report a loss.
      for (const { end, receivedBytes: bytes } of killed === 'host' ? results.far : results.near) {
        if (end === 'ended') t.is(bytes, MAX_TRANSFER_BYTES, what);
      }
      await survivor.waitForLine(ENDED, { from });
      if (killed === 'guest') {
        pair.startGuest();
      } else {
        await pair.startHost().waitForLine(/waiting for the peer/);
        survivor.kill('SIGHUP');
      }
      await pair.established({ [killed === 'host' ? 'guest' : 'host']: from });
    }
  });
}
