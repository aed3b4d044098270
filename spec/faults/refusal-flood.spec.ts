/** Streams that are refused as fast as they are opened: both logs stay readable, and say what they left out. */
import test from 'ava';
import { freePort } from '../helpers/ports.js';
import { processPair } from '../helpers/process-pair.js';
import { failureOf, localSocket } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

const REFUSED = 1000;

test('1,000 streams that are refused are at most some hundred lines in each log, and every one is counted', async (t) => {
  const { host, guest } = await processPair(t, { host: ['-o', 'x:0'], guest: ['-i', `x:${await freePort()}`] });
  const port = await host.listeningPort('x');
  await Promise.all(Array.from({ length: REFUSED }, () => failureOf(localSocket(t, { host: '127.0.0.1', port }))));
  for (const { lines } of [host, guest]) {
    const told = await eventually(() => {
      const leftOut = lines.map((line) => Number(/(\d+) more lines .* left out/.exec(line)?.[1] ?? 0));
      const shown = lines.filter((line) => line.includes('(connect-refused)')).length;
      return leftOut.reduce((sum, count) => sum + count, shown) === REFUSED && shown;
    });
    t.true(told >= 10 && lines.length < 300, `${lines.length}`);
  }
});
