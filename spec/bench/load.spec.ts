/** The load generator against its own far end. */

import type { ExecutionContext } from 'ava';
import test from 'ava';
import { percentile } from '../../bench/load/echo.js';
import { LoadClient } from '../../bench/load/load-client.js';
import { startTarget } from '../../bench/load/start-target.js';
import { Programs } from '../../bench/process/programs.js';
import { temporaryFolder } from '../helpers/files.js';

async function startLoad(t: ExecutionContext): Promise<{ readonly address: number; readonly load: LoadClient }> {
  const programs = new Programs(temporaryFolder(t));
  const load = new LoadClient();
  t.teardown(() => programs.stop());
  t.teardown(() => load.stop());
  return { address: (await startTarget(programs)).port, load };
}

test('a percentile is the value below which that share lies', (t) => {
  const values = Array.from({ length: 100 }, (_, index) => index);
  t.deepEqual(
    [0.5, 0.99, 0.999].map((share) => percentile(values, share)),
    [50, 99, 99],
  );
  t.is(percentile([], 0.5), Number.NaN);
});

test('bytes go up and down on several connections, which stay until they are released', async (t) => {
  const { address, load } = await startLoad(t);
  for (const direction of ['up', 'down'] as const) {
    const { rate = 0 } = await load.run({ kind: 'rate', address, direction, streams: 3, bytes: 1_000_001 });
    t.true(rate > 0);
    t.deepEqual(await load.run({ kind: 'release' }), {});
  }
  t.true(load.cpuSeconds > 0);
});

test('messages of any size come back, so many or for so long', async (t) => {
  const { address, load } = await startLoad(t);
  for (const bytes of [1, 16_384, 1_048_576]) {
    const figures = await load.run({ kind: 'echo', address, bytes, messages: 5 });
    t.is(figures['messages'], 5);
    t.true((figures['p50'] ?? 0) > 0 && (figures['p50'] ?? 0) <= (figures['p999'] ?? 0));
  }
  const { messages = 0 } = await load.run({ kind: 'echo', address, bytes: 1, messages: Infinity, forMs: 50 });
  t.true(messages > 5);
});

test('connections are made, held, left unread, and made again after that', async (t) => {
  const { address, load } = await startLoad(t);
  t.true(((await load.run({ kind: 'connections', address, count: 50, parallel: 8 }))['perSecond'] ?? 0) > 0);
  await load.run({ kind: 'hold', address, count: 200 });
  await load.run({ kind: 'hold-unread', address });
  await load.run({ kind: 'start-bulk', address, direction: 'down', streams: 2 });
  t.is((await load.run({ kind: 'echo', address, bytes: 1, messages: 3 }))['messages'], 3);
  t.true(((await load.run({ kind: 'count-bulk' }))['bytes'] ?? 0) > 0);
  await load.run({ kind: 'release' });
  t.is((await load.run({ kind: 'count-bulk' }))['bytes'], 0);
});

test('what fails says why, and the next command works', async (t) => {
  const { address, load } = await startLoad(t);
  await t.throwsAsync(load.run({ kind: 'echo', address: '/no/such/socket', bytes: 1, messages: 1 }), {
    message: /ENOENT/,
  });
  await t.throwsAsync(load.run({ kind: 'echo', address, bytes: 1, messages: Infinity }, 200), {
    message: 'echo took longer than 200 ms',
  });
  t.is((await load.run({ kind: 'echo', address, bytes: 1, messages: 1 }))['messages'], 1);
});
