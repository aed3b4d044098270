/** A side, or the channel, is lost or stalls in the middle of transfers: each is complete, or a prefix followed by a reset. */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { INTEGRITY_LEVELS } from '../../lib/codec/header.js';
import { processPair } from '../helpers/process-pair.js';
import { ask, echo, endsInOrder, localServer, localSocket, openEcho } from '../helpers/proxies.js';
import { CuttingRelay } from '../helpers/relays.js';
import { MAX_TRANSFER_BYTES, type Outcome, outcomeOf, pattern } from '../helpers/traffic.js';
import { ENDED } from '../helpers/vproxy-process.js';

const AT_ONCE = 4;
const ROUNDS = 5;

/** Longer than any timeout of a side: the pause itself is what is tested. */
const PAUSE_MS = 40_000;
const TEST_MS = 120_000;

/** A target that sends the pattern on each connection and reads the other side's, and transfers to it. */
async function startTransfers(t: ExecutionContext) {
  const far: Promise<Outcome>[] = [];
  const target = await localServer(t, (socket) => {
    far.push(outcomeOf(socket));
    socket.end(pattern(MAX_TRANSFER_BYTES));
  });
  /** Transfers in both directions; `onBytes` gets the number of bytes that came back so far. */
  const run = async (port: number, onBytes: (receivedBytes: number) => void = () => undefined) => {
    far.length = 0;
    let receivedBytes = 0;
    const near = Array.from({ length: AT_ONCE }, () => {
      const socket = localSocket(t, port);
      const outcome = outcomeOf(socket);
      socket.on('data', (chunk: Buffer) => onBytes((receivedBytes += chunk.length)));
      socket.end(pattern(MAX_TRANSFER_BYTES));
      return outcome;
    });
    return { near: await Promise.all(near), far: () => Promise.all(far) };
  };
  return { target: `x:${target.port}`, run };
}

function assertWhole(t: ExecutionContext, outcomes: readonly Outcome[], what: object): void {
  for (const { end, receivedBytes, isPrefix } of outcomes) {
    const figures = JSON.stringify({ ...what, outcomes });
    t.true(isPrefix, figures);
    if (end === 'ended') t.is(receivedBytes, MAX_TRANSFER_BYTES, figures);
  }
}

for (const killed of ['host', 'guest'] as const) {
  test(`kill -9 of the ${killed} leaves no incomplete transfer that looks complete`, async (t) => {
    const { target, run } = await startTransfers(t);
    const pair = await processPair(t, { host: ['-o', 'x:0'], guest: ['-i', target] });
    for (let round = 0; round < ROUNDS; round += 1) {
      const killAtBytes = randomInt(MAX_TRANSFER_BYTES * AT_ONCE);
      const [victim, survivor] = killed === 'host' ? [pair.host, pair.guest] : [pair.guest, pair.host];
      const from = survivor.lines.length;
      const { near, far } = await run(await pair.host.listeningPort('x'), (bytes) => {
        if (bytes >= killAtBytes) victim.kill('SIGKILL');
      });
      victim.kill('SIGKILL');
      await victim.exited;
      // The system closes the victim's sockets in either way; the survivor has to report a loss.
      const [own, others] = killed === 'host' ? [near, await far()] : [await far(), near];
      assertWhole(t, others, { round, killAtBytes });
      t.true(own.every(({ isPrefix }) => isPrefix));
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

for (const integrity of INTEGRITY_LEVELS) {
  test(`a channel cut at a random byte ends each transfer complete, or with a reset after a prefix; integrity ${integrity}`, async (t) => {
    const { relay, near, far: hostPath } = await CuttingRelay.between(t);
    const { target, run } = await startTransfers(t);
    const pair = await processPair(t, {
      ...{ hostPath: `${hostPath},integrity=${integrity}`, guestPath: near },
      ...{ host: ['-o', 'x:0'], guest: ['-i', target] },
    });
    const { host, guest } = pair;
    const port = await host.listeningPort('x');
    const transfer = async (cutAtBytes: number) => {
      relay.leftBytes = cutAtBytes;
      const { near, far } = await run(port);
      const outcomes = [...near, ...(await far())];
      assertWhole(t, outcomes, { cutAtBytes });
      return outcomes.filter(({ end }) => end === 'reset').length;
    };
    let resetCount = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      const from = { host: host.lines.length, guest: guest.lines.length };
      resetCount += await transfer(randomInt(1, AT_ONCE * MAX_TRANSFER_BYTES));
      await Promise.all([host.waitForLine(ENDED, { from: from.host }), guest.waitForLine(ENDED, { from: from.guest })]);
      relay.leftBytes = Number.POSITIVE_INFINITY;
      guest.kill('SIGHUP');
      await pair.established(from);
    }
    t.true(resetCount > 0);
    t.is(await transfer(Number.POSITIVE_INFINITY), 0);
  });
}

// Both at the same time: a stopped process takes no CPU time.
for (const paused of ['host', 'guest'] as const) {
  test(`a ${paused} that stalls for 40 s in the middle of transfers loses nothing`, async (t) => {
    t.timeout(TEST_MS);
    const target = await localServer(t, echo);
    const pair = await processPair(t, { host: ['-o', 'echo:0'], guest: ['-i', `echo:${target.port}`] });
    const port = await pair.host.listeningPort('echo');
    const idle = await openEcho(t, port);
    const sockets = Array.from({ length: AT_ONCE }, () => localSocket(t, port));
    const outcomes = sockets.map((socket) => outcomeOf(socket, { timeoutMs: TEST_MS }));
    // A stream that is not open yet waits for only 30 s.
    const opened = Promise.all(sockets.map((socket) => once(socket, 'data')));
    for (const socket of sockets) socket.end(pattern(MAX_TRANSFER_BYTES));
    await opened;
    pair[paused].kill('SIGSTOP');
    await delay(PAUSE_MS);
    pair[paused].kill('SIGCONT');
    for (const outcome of await Promise.all(outcomes))
      t.deepEqual(outcome, { end: 'ended', receivedBytes: MAX_TRANSFER_BYTES, isPrefix: true });
    t.true(await endsInOrder(idle));
    t.is(await ask(t, port), 'hello');
    for (const { lines } of [pair.host, pair.guest]) t.false(lines.some((line) => ENDED.test(line)));
  });
}
