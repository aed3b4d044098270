/** Which processes `vproxy web` shows, and when it asks them, beside processes that answer as the spec says. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Machines } from '../../web/server/machines.js';
import { temporaryFolder } from '../helpers/files.js';
import { eventually, ManualClock } from '../helpers/time.js';

const channel = (label: string) => ({
  address: 'unix-listen:/none',
  ...{ label, state: 'waiting', since: '2026-01-01T00:00:00Z', detail: null, session: null },
  ...{ history: { sessions: 0, recent: [] }, totals: { sentBytes: 0, receivedBytes: 0 } },
});

const question = (id: string, label: string) => ({
  ...{ id, channel: label, egress: 'internet', destination: 'example.com:443' },
  ...{ askedAt: '2026-01-01T00:00:00Z', until: '2026-01-01T00:01:00Z' },
});

/** A process with a name and a channel; it answers while `isOn`, and each look ends with a question of its number. */
async function startProcess(t: ExecutionContext, path: string, name: string, label: string) {
  const asked = {
    /** The requests for the status, and those that ended without an answer. */
    ...{ count: 0, closed: 0 },
    isOn: true,
    beforeStatus: (): void => undefined,
    /** The answer to all others. */
    list: (): unknown => [question(String(asked.count), label)],
  };
  const server = createServer((request, response) => {
    const isStatus = request.url === '/v1/status';
    response.once('close', () => {
      if (!response.writableFinished) asked.closed += 1;
    });
    if (isStatus) asked.count += 1;
    if (!asked.isOn) return;
    if (isStatus) asked.beforeStatus();
    const status = { process: { name, pid: 1, version: 'vproxy 0' }, channels: [channel(label)] };
    response.end(JSON.stringify(isStatus ? status : asked.list()));
  });
  await once(server.listen(path), 'listening');
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return asked;
}

function startMachines(t: ExecutionContext, paths: readonly string[]) {
  const clock = new ManualClock();
  const machines = new Machines({ find: () => Promise.resolve(paths), clock });
  t.teardown(() => machines.stop());
  return { clock, machines };
}

const labelsOf = (machines: Machines): string[] =>
  machines.list(0, 10, 'name', '').rows.map(({ process, label }) => `${process}/${label}`);

/** The numbers of the looks that have ended last, of each process. */
const looksOf = (machines: Machines): string[] => machines.list(0, 10, 'name', '').questions.map(({ id }) => id);

test('a process keeps its key when another of the same name comes', async (t) => {
  const folder = temporaryFolder(t);
  const [a, b] = [join(folder, 'a.sock'), join(folder, 'b.sock')];
  await startProcess(t, b, 'same', 'of-b');
  const { clock, machines } = startMachines(t, [a, b]);
  await machines.start();
  t.deepEqual(labelsOf(machines), ['same/of-b']);
  await startProcess(t, a, 'same', 'of-a');
  await eventually(() => {
    clock.advance(1000);
    return labelsOf(machines).includes(`${a}/of-a`);
  });
  t.true(labelsOf(machines).includes('same/of-b'));
  t.is(machines.socketOf('same'), b);
});

test('a name that is no word of a path is not a key', async (t) => {
  const path = join(temporaryFolder(t), 'a.sock');
  await startProcess(t, path, '..', 'one');
  const { machines } = startMachines(t, [path]);
  await machines.start();
  t.deepEqual(labelsOf(machines), [`${path}/one`]);
});

test('a process that hangs does not keep others waiting, nor the end', async (t) => {
  const folder = temporaryFolder(t);
  const [a, b] = [join(folder, 'a.sock'), join(folder, 'b.sock')];
  const hanging = await startProcess(t, a, 'a', 'of-a');
  const other = await startProcess(t, b, 'b', 'of-b');
  const { clock, machines } = startMachines(t, [a, b]);
  hanging.isOn = false;
  void machines.start();
  await eventually(() => other.count === 1);
  for (const count of [1, 2, 3]) {
    await eventually(() => looksOf(machines).includes(String(count)));
    // Immediately, as a page asks; then each second.
    clock.advance(count === 1 ? 0 : 1000);
    await eventually(() => other.count === count + 1);
  }
  t.is(hanging.closed, 0);
  machines.stop();
  await eventually(() => hanging.closed === 1);
});

test('a process that takes long to answer is asked so that it costs a hundredth of the time', async (t) => {
  const path = join(temporaryFolder(t), 'a.sock');
  const slow = await startProcess(t, path, 'a', 'of-a');
  const { clock, machines } = startMachines(t, [path]);
  const askedAtMs: number[] = [];
  slow.beforeStatus = () => {
    askedAtMs.push(clock.now());
    clock.advance(30);
  };
  await machines.start();
  await eventually(() => {
    clock.advance(50);
    return looksOf(machines).includes('2');
  });
  const [first = 0, second = 0] = askedAtMs;
  t.true(second - first >= 30 + 3000, String(second - first));
});

test('what is no list of a vproxy is said, and items that are none are left out', async (t) => {
  const path = join(temporaryFolder(t), 'a.sock');
  const strange = await startProcess(t, path, 'a', 'of-a');
  const { machines } = startMachines(t, [path]);
  await machines.start();
  const show = () => machines.show('a', 'of-a', 0, false);
  strange.list = () => ({ filter: 1 });
  await t.throwsAsync(show(), { message: /its list is not understood/ });
  strange.list = () => [null, 5, 'text', { channel: 'of-b' }, { channel: 'of-a' }];
  t.is((await show()).streams.length, 1);
});
