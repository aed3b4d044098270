/** What speaks HTTP is loaded for the first connection. */
import { once } from 'node:events';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { HttpService, REQUEST_TIMEOUT_MS } from '../../lib/control/server/http-service.js';
import { deferred } from '../../lib/util/concurrency.js';
import { ask, openConnection } from '../helpers/control.js';
import { temporaryFolder } from '../helpers/files.js';
import { readToEnd } from '../helpers/proxies.js';
import { ManualClock } from '../helpers/time.js';

const HANDLERS = { onRequest: (_request: unknown, response: { end(text: string): void }) => response.end('answer') };

async function serve(t: ExecutionContext, load: () => Promise<typeof HANDLERS>) {
  const clock = new ManualClock();
  const service = new HttpService({ clock, load });
  const socketPath = join(temporaryFolder(t), 'socket');
  await service.listen({ path: socketPath });
  t.teardown(() => service.close());
  return { clock, socketPath };
}

test('it is loaded once, for connections that came meanwhile as well', async (t) => {
  const loading = deferred<typeof HANDLERS>();
  let loadCount = 0;
  const load = () => {
    loadCount += 1;
    return loading.promise;
  };
  const { socketPath } = await serve(t, load);
  t.is(loadCount, 0);
  const early = Array.from({ length: 3 }, () => ask({ socketPath }, 'GET', '/'));
  // What has gone by then is no matter.
  const gone = await openConnection(t, socketPath);
  gone.write('GET / HTTP/1.1\r\n');
  gone.destroy();
  loading.resolve(HANDLERS);
  for (const answer of [...(await Promise.all(early)), await ask({ socketPath }, 'GET', '/')]) {
    t.is(answer.text, 'answer');
  }
  t.is(loadCount, 1);
});

test('where it cannot be loaded the connection is closed, and the next one tries again', async (t) => {
  const outcomes = [() => Promise.reject(new Error('the file is not there')), () => Promise.resolve(HANDLERS)];
  const { socketPath } = await serve(t, () => outcomes.shift()?.() ?? Promise.reject(new Error('once too often')));
  const refused = await openConnection(t, socketPath);
  t.is((await readToEnd(refused)).length, 0);
  t.is((await ask({ socketPath }, 'GET', '/')).text, 'answer');
  t.is((await ask({ socketPath }, 'GET', '/')).text, 'answer');
});

test('a connection has its time from when it is loaded, however long that takes', async (t) => {
  const loading = deferred<typeof HANDLERS>();
  const begun = deferred();
  const load = () => {
    begun.resolve();
    return loading.promise;
  };
  const { clock, socketPath } = await serve(t, load);
  const early = ask({ socketPath }, 'GET', '/');
  await begun.promise;
  clock.advance(60_000);
  loading.resolve(HANDLERS);
  t.is((await early).text, 'answer');
  t.is(clock.pending, 0);
  const silent = await openConnection(t, socketPath);
  const ended = once(silent.resume(), 'end');
  // The service has it when the clock has its time-out.
  while (clock.pending === 0) await new Promise((resolve) => setImmediate(resolve));
  clock.advance(REQUEST_TIMEOUT_MS);
  await ended;
});
