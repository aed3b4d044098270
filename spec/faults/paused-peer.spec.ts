/** A peer that is stopped for 40 s, as a paused VM is: the session and its streams are alive when it goes on. */
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { processPair } from '../helpers/process-pair.js';
import { echo, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { MAX_TRANSFER_BYTES, outcomeOf, pattern } from '../helpers/traffic.js';
import { ENDED } from '../helpers/vproxy-process.js';

/** Longer than any time within which a side expects something: the pause itself is what is tested. */
const PAUSE_MS = 40_000;
const TEST_MS = 120_000;
const TRANSFERS = 5;

// Both at the same time: a stopped process takes no processor time.
for (const paused of ['host', 'guest'] as const) {
  test(`a ${paused} that stands still for 40 s in the middle of transfers loses nothing`, async (t) => {
    t.timeout(TEST_MS);
    const target = await localServer(t, echo);
    const pair = await processPair(t, { host: ['-o', 'echo:0'], guest: ['-i', `echo:${target.port}`] });
    const port = await pair.host.listeningPort('echo');
    const call = async (text: string) => {
      const socket = localSocket(t, { host: '127.0.0.1', port });
      socket.end(text);
      return (await readToEnd(socket)).toString();
    };
    t.is(await call('before'), 'before');
    const idle = localSocket(t, { host: '127.0.0.1', port });
    idle.write('before');
    await once(idle, 'data');
    const sockets = Array.from({ length: TRANSFERS }, () => localSocket(t, { host: '127.0.0.1', port }));
    const outcomes = sockets.map((socket) => outcomeOf(socket, { timeoutMs: TEST_MS }));
    // A stream that is not open yet waits for 30 s only.
    const opened = Promise.all(sockets.map((socket) => once(socket, 'data')));
    for (const socket of sockets) socket.end(pattern(MAX_TRANSFER_BYTES));
    await opened;
    pair[paused].kill('SIGSTOP');
    await delay(PAUSE_MS);
    pair[paused].kill('SIGCONT');
    for (const outcome of await Promise.all(outcomes)) {
      t.deepEqual(outcome, { end: 'ended', receivedBytes: MAX_TRANSFER_BYTES, isPrefix: true });
    }
    idle.write('after');
    t.is(String((await once(idle, 'data'))[0]), 'after');
    t.is(await call('after'), 'after');
    for (const { lines } of [pair.host, pair.guest]) t.false(lines.some((line) => ENDED.test(line)));
  });
}
