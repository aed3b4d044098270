import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
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

/** How a service of a program may fail, for the first bytes that come. */
const FAILURES: Readonly<Record<string, (stream: MuxStream) => unknown>> = {
  throws: () => {
    throw new Error('ENOENT /root/secret');
  },
  rejects: async (stream) => {
    await once(stream, 'data');
    throw new Error('ENOENT /root/secret');
  },
  listener: (stream) =>
    stream.on('data', () => {
      throw new Error('ENOENT /root/secret');
    }),
  'end-listener': (stream) =>
    stream.resume().on('end', () => {
      throw new Error('ENOENT /root/secret');
    }),
};

for (const [name, handle] of Object.entries(FAILURES)) {
  test(`a service that fails ends its own stream, is logged, and the peer is not told why: ${name}`, async (t) => {
    const { a, b } = await connectedProxies(t, join(temporaryFolder(t), 'channel.sock'), {}, {});
    a.proxy.serve(name, handle);
    a.proxy.serve('echo', (stream) => stream.pipe(stream));
    const neighbour = await b.proxy.connect('echo');
    const talk = b.proxy.connect(name).then((stream) => buffer(stream.end('x')));
    await t.throwsAsync(talk, { code: 'internal', message: `service ${name} failed` });
    const { level, message, fields } = await a.event('service-failed');
    t.regex(message, new RegExp(`^service ${name} failed on stream \\d+: ENOENT /root/secret$`));
    t.like({ level, fields }, { level: 'error', fields: { service: name } });
    neighbour.end('still here');
    t.is((await buffer(neighbour)).toString(), 'still here');
  });
}

test('a handler that awaits a stream which the peer resets has not failed', async (t) => {
  const { a, b } = await connectedProxies(t, join(temporaryFolder(t), 'channel.sock'), {}, {});
  const handled = deferred<unknown>();
  a.proxy.serve('sink', async (stream) => {
    try {
      await buffer(stream);
    } catch (error) {
      setImmediate(() => handled.resolve(error));
      throw error;
    }
  });
  const stream = await b.proxy.connect('sink');
  stream.destroy();
  t.like(await handled.promise, { code: 'cancelled' });
  t.false(a.events.some(({ event }) => event === 'service-failed'));
});

test('a program that waits for a session learns when none comes', async (t) => {
  const proxy = new TestProxy(t, `unix-connect:${join(temporaryFolder(t), 'nobody.sock')}`, { waitMs: 20 });
  await t.throwsAsync(proxy.proxy.connect('echo'), { code: 'no-session' });
});
