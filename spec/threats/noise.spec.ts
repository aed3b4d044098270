/** A line that loses and repeats bytes, and stays: sessions that outlive their links go on over it (R-RESUME-6). */
import test from 'ava';
import { Exchanges } from '../helpers/exchanges.js';
import { TestProxy } from '../helpers/proxies.js';
import { Middle, type Way } from './middle.js';
import { endCodes, listeningPort, sessionCount } from './scene.js';

const STREAMS = 4;
const DAMAGES_EACH_WAY = 2;
/** So much is carried each way between two of them. */
const BETWEEN_BYTES = 2_000_000;

for (const [what, times] of [
  ['lost', 0],
  ['repeated', 2],
] as const) {
  test(`bytes that are ${what} on the way are sent again: every stream gets all of its own, once`, async (t) => {
    const exchanges = await Exchanges.start(t);
    const listener = new TestProxy(t, 'tcp-listen:127.0.0.1:0', { outgoing: [`x:${exchanges.localPath}`] });
    await listener.start();
    const middle = await Middle.start(t, listeningPort(listener));
    const carried: Record<Way, number> = { 'to-host': 0, 'to-guest': 0 };
    const damages: Record<Way, number> = { 'to-host': 0, 'to-guest': 0 };
    middle.attack(() => (bytes, way) => {
      carried[way] += bytes.length;
      if (damages[way] === DAMAGES_EACH_WAY || carried[way] < BETWEEN_BYTES) return bytes;
      carried[way] = 0;
      damages[way] += 1;
      return Buffer.concat(Array.from({ length: times }, () => bytes));
    });
    const address = `tcp-connect:127.0.0.1:${middle.port}`;
    const dialler = new TestProxy(t, address, { incoming: [`x:${exchanges.targetPath}`] });
    await dialler.start();
    await Promise.all([listener.event('services'), dialler.event('services')]);
    await exchanges.open(STREAMS);
    while (Object.values(damages).some((count) => count < DAMAGES_EACH_WAY)) await exchanges.received(100_000);
    t.deepEqual(await exchanges.finish(), []);
    t.is(middle.crossings.length, 1);
    for (const side of [listener, dialler]) {
      t.deepEqual([endCodes(side), sessionCount(side)], [[], 1]);
      t.true(side.proxy.channel('default').totals.resumptions >= 1);
    }
  });
}
