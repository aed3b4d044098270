/** `streams=` after a channel: how many streams of its peer a side has open at once. */
import { once } from 'node:events';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { TestProxy } from '../helpers/proxies.js';

test('with streams=2 at the side that serves, a third stream is held back until one of two has ended', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const a = new TestProxy(t, `unix-listen:${path},streams=2`);
  const b = new TestProxy(t, `unix-connect:${path}`);
  a.proxy.serve('echo', (stream) => void stream.pipe(stream));
  await a.start();
  await b.start();
  const open = () => b.proxy.connect('echo');
  const [first, second] = [await open(), await open()] as const;
  const isThirdOpen = open();
  first.write('x');
  // The echo of the first comes after the answers to all openings that were sent.
  await once(first, 'data');
  t.is(a.proxy.listStreams().length, 2);
  second.resume().end();
  const third = await isThirdOpen;
  t.true(third.id > second.id);
  for (const stream of [first, third]) await once(stream.resume().end(), 'close');
});
