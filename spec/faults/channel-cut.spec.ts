/**
 * The channel is cut at any byte, also in the middle of a frame: both sides detect it, end their streams, and
 * reconnect.
 */
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import test from 'ava';
import { INTEGRITY_LEVELS } from '../../lib/codec/header.js';
import { temporaryFolder } from '../helpers/files.js';
import { processPair } from '../helpers/process-pair.js';
import { localServer, localSocket } from '../helpers/proxies.js';
import { CuttingRelay } from '../helpers/relays.js';
import { MAX_TRANSFER_BYTES, type Outcome, outcomeOf, pattern } from '../helpers/traffic.js';
import { ENDED } from '../helpers/vproxy-process.js';

const ROUNDS = 10;
const TRANSFERS_AT_ONCE = 2;

for (const integrity of INTEGRITY_LEVELS) {
  test(`a channel that is cut at a random byte ends each transfer whole, or in a reset behind a prefix; integrity ${integrity}`, async (t) => {
    const folder = temporaryFolder(t);
    const [hostPath, guestPath] = [join(folder, 'host.sock'), join(folder, 'guest.sock')];
    const relay = new CuttingRelay();
    await relay.start(t, guestPath, hostPath);
    const far: Promise<Outcome>[] = [];
    const target = await localServer(t, (socket) => {
      far.push(outcomeOf(socket));
      socket.end(pattern(MAX_TRANSFER_BYTES));
    });
    const pair = await processPair(t, {
      ...{ hostPath: `${hostPath},integrity=${integrity}`, guestPath },
      ...{ host: ['-o', 'x:0'], guest: ['-i', `x:${target.port}`] },
    });
    const { host, guest } = pair;
    const port = await host.listeningPort('x');

    /** Transfers both ways, while the channel carries `cutAtBytes` bytes. */
    async function transfer(cutAtBytes: number): Promise<readonly Outcome[]> {
      far.length = 0;
      relay.leftBytes = cutAtBytes;
      const near = Array.from({ length: TRANSFERS_AT_ONCE }, () => localSocket(t, { host: '127.0.0.1', port }));
      const outcomes = near.map((socket) => outcomeOf(socket));
      for (const socket of near) socket.end(pattern(MAX_TRANSFER_BYTES));
      const results = [...(await Promise.all(outcomes)), ...(await Promise.all(far))];
      for (const { end, receivedBytes, isPrefix } of results) {
        const what = JSON.stringify({ cutAtBytes, results });
        t.true(isPrefix, what);
        if (end === 'ended') t.is(receivedBytes, MAX_TRANSFER_BYTES, what);
      }
      return results;
    }

    let resetCount = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      const from = { host: host.lines.length, guest: guest.lines.length };
      const results = await transfer(randomInt(1, TRANSFERS_AT_ONCE * MAX_TRANSFER_BYTES));
      resetCount += results.filter(({ end }) => end === 'reset').length;
      await Promise.all([host.waitForLine(ENDED, { from: from.host }), guest.waitForLine(ENDED, { from: from.guest })]);
      relay.leftBytes = Number.POSITIVE_INFINITY;
      guest.kill('SIGHUP');
      await pair.established(from);
    }
    t.true(resetCount > 0);
    t.true((await transfer(Number.POSITIVE_INFINITY)).every(({ end }) => end === 'ended'));
  });
}
