/** A peer that stands still for a while, as a paused VM does: the session and its streams are there when it goes on. */
import { once } from 'node:events';
import test from 'ava';
import { eventually } from '../helpers/eventually.js';
import { processPair } from '../helpers/process-pair.js';
import { echo, localServer, localSocket } from '../helpers/proxies.js';
import { MAX_TRANSFER_BYTES, outcomeOf, pattern } from '../helpers/transfer.js';

const PAUSE_MS = 3000;

for (const paused of ['host', 'guest'] as const) {
  test(`a ${paused} that stands still for 3 s in the middle of transfers loses nothing`, async (t) => {
    const target = await localServer(t, echo);
    const pair = await processPair(t, { host: ['-o', 'echo:0'], guest: ['-i', `echo:${target.port}`] });
    const port = await pair.host.listeningPort('echo');
    const idle = localSocket(t, { host: '127.0.0.1', port });
    idle.write('before');
    await once(idle, 'data');
    const sockets = Array.from({ length: 5 }, () => localSocket(t, { host: '127.0.0.1', port }));
    const outcomes = sockets.map(outcomeOf);
    for (const socket of sockets) socket.end(pattern(MAX_TRANSFER_BYTES));
    await once(sockets[0] ?? idle, 'data');
    pair[paused].kill('SIGSTOP');
    const since = performance.now();
    // The pause itself is what is tested: there is nothing else to wait for.
    await eventually(() => performance.now() - since > PAUSE_MS);
    pair[paused].kill('SIGCONT');
    for (const outcome of await Promise.all(outcomes)) {
      t.deepEqual(outcome, { end: 'ended', receivedBytes: MAX_TRANSFER_BYTES, isPrefix: true });
    }
    idle.write('after');
    t.is(String((await once(idle, 'data'))[0]), 'after');
    for (const { lines } of [pair.host, pair.guest]) t.false(lines.some((line) => /session .* ended/.test(line)));
  });
}
