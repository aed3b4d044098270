import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import test from 'ava';
import type { MuxStream } from '../../lib/session/mux-stream.js';
import { deferred } from '../../lib/util/concurrency.js';
import { temporaryFolder } from '../helpers/files.js';
import { connectedProxies, TestProxy } from '../helpers/proxies.js';

test('a program serves streams and opens them without a socket of its own', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const a = new TestProxy(t, `unix-listen:${path}`);
  const b = new TestProxy(t, `unix-connect:${path}`);
  a.proxy.serve('echo', (stream) => void stream.pipe(stream));
  await a.start();
  const opening = b.proxy.connect('echo');
  await b.start();
  const stream = await opening;
  const data = randomBytes(3_000_000);
  stream.end(data);
  t.true((await buffer(stream)).equals(data));
});

test('a stream that the peer resets ends nothing else, although its handler does not listen for errors', async (t) => {
  const served = deferred<MuxStream>();
  const { a, b } = await connectedProxies(t, join(temporaryFolder(t), 'channel.sock'), {}, {});
  a.proxy.serve('sink', (stream) => served.resolve(stream));
  const stream = await b.proxy.connect('sink');
  const accepted = await served.promise;
  const closed = new Promise((resolve) => accepted.once('close', resolve));
  stream.destroy();
  await closed;
  t.like(accepted.errored, { code: 'cancelled' });
  t.deepEqual(a.proxy.listStreams(), []);
});

test('a program that waits for a session learns when none comes', async (t) => {
  const proxy = new TestProxy(t, `unix-connect:${join(temporaryFolder(t), 'nobody.sock')}`, { waitMs: 20 });
  await t.throwsAsync(proxy.proxy.connect('echo'), { code: 'no-session' });
});
