/** What is announced of what listens, on a clock that is moved by hand. */
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { parseForwardSpec } from '../../../lib/forward/spec.js';
import { type OwnPorts, PortAnnouncer } from '../../../lib/proxy/ports/port-announcer.js';
import type { ListeningPort } from '../../../lib/system/proc/listening-ports.js';
import { forwardTable } from '../../helpers/forward-tables.js';

const at = (port: number, program: string | null = 'node', host = '127.0.0.1'): ListeningPort => {
  return { port, host, program };
};

const range = (from: number, count: number) => Array.from({ length: count }, (_, index) => from + index);

function setUp(t: ExecutionContext) {
  const machine = { listening: [] as ListeningPort[], looks: 0, hasPeer: true, changes: 0 };
  const table = forwardTable(t, () => void (machine.changes += 1));
  const { clock } = table;
  const make = (forwards = table.forwards, ports?: OwnPorts): PortAnnouncer => {
    const look = (isWanted: (port: number) => boolean) => {
      machine.looks += 1;
      return Promise.resolve(machine.listening.filter(({ port }) => isWanted(port)));
    };
    const announcer = new PortAnnouncer({ ...table, forwards, look, hasPeer: () => machine.hasPeer }, ports);
    t.teardown(() => announcer.stop());
    return announcer;
  };
  const announcer = make();
  announcer.setRanges([[3000, 9999]]);
  /** Time passes, and what is looked for meanwhile is found. */
  const pass = async (ms: number): Promise<void> => {
    clock.advance(ms);
    await setImmediate();
  };
  /** What listens from now on; time passes until it is announced. */
  const listens = async (...listening: ListeningPort[]): Promise<void> => {
    machine.listening = listening;
    await pass(0);
    await pass(1000);
  };
  const ports = () => announcer.announced?.map(({ port }) => port);
  return { ...table, machine, announcer, make, pass, listens, ports };
}

test('ports are looked for when there is a peer, and each second while it is there', async (t) => {
  const { machine, announcer, pass, clock } = setUp(t);
  await pass(0);
  t.is(machine.looks, 1);
  await pass(999);
  t.is(machine.looks, 1);
  await pass(1);
  t.is(machine.looks, 2);
  machine.hasPeer = false;
  await pass(1000);
  await pass(60_000);
  t.is(machine.looks, 2);
  t.is(clock.pending, 0, 'without a peer nothing waits for a time');
  machine.hasPeer = true;
  announcer.wake();
  announcer.wake();
  await pass(0);
  t.is(machine.looks, 3);
});

test('what listens in the ranges is announced, with a service each, until it does not', async (t) => {
  const { announcer, registry, forwards, told, listens } = setUp(t);
  t.is(announcer.announced, null, 'nothing is known before the first look');
  await listens(at(2999), at(3000), at(5432, null, '10.0.0.5'), at(10_000));
  t.deepEqual(announcer.announced, [
    { port: 3000, program: 'node' },
    { port: 5432, program: null },
  ]);
  t.deepEqual(registry.list(), ['port.3000', 'port.5432']);
  t.deepEqual(
    forwards.list().map(({ spec }) => spec),
    ['port.3000:127.0.0.1:3000', 'port.5432:10.0.0.5:5432'],
  );
  await listens(at(5432, 'postgres', '10.0.0.5'));
  t.deepEqual(announcer.announced, [{ port: 5432, program: 'postgres' }]);
  t.deepEqual(registry.list(), ['port.5432']);
  await listens();
  t.deepEqual(announcer.announced, []);
  t.deepEqual(told(), [
    'port 3000 (node) is announced to the peer',
    'port 5432 is announced to the peer',
    'port 3000 (node) is announced no more',
    'port 5432 (postgres) is announced no more',
  ]);
});

test('the peer hears once of all that one look has found', async (t) => {
  const { machine, listens } = setUp(t);
  await listens(...range(3000, 50).map((port) => at(port)));
  machine.changes = 0;
  await listens(...range(3025, 50).map((port) => at(port)));
  t.is(machine.changes, 1);
});

test('a port at another address is dialled there, by a forward of its own', async (t) => {
  const { announcer, forwards, listens } = setUp(t);
  await listens(at(3000));
  await listens(at(3000, 'node', '::1'));
  t.deepEqual(
    forwards.list().map(({ endpoint }) => endpoint),
    ['[::1]:3000'],
  );
  t.deepEqual(announcer.announced, [{ port: 3000, program: 'node' }]);
});

test('at most 64 are announced: the lowest, and what is announced stays', async (t) => {
  const { listens, ports, registry } = setUp(t);
  const all = range(4000, 100).map((port) => at(port));
  await listens(...all);
  t.deepEqual(ports(), range(4000, 64));
  await listens(at(3000), ...all);
  t.deepEqual(ports(), range(4000, 64));
  await listens(at(3000), ...all.slice(1));
  t.deepEqual(ports(), [3000, ...range(4001, 63)]);
  t.is(registry.list().length, 64);
});

test('a port whose name a service has is not announced', async (t) => {
  const { announcer, forwards, told, listens } = setUp(t);
  await forwards.start(forwards.create(parseForwardSpec('incoming', 'port.3000:22')));
  await listens(at(3000), at(3001));
  t.deepEqual(announcer.announced, [{ port: 3001, program: 'node' }]);
  t.deepEqual(told(), ['port 3001 (node) is announced to the peer']);
});

test('a forward of a port that people remove is announced no more', async (t) => {
  const { announcer, pass, forwards, listens } = setUp(t);
  await listens(at(3000));
  const [entry] = forwards.active;
  t.truthy(entry);
  if (entry !== undefined) await forwards.remove(entry, true);
  await pass(1000);
  t.deepEqual(announcer.announced, []);
});

test('looks that take long come less often: a hundredth of the time', async (t) => {
  const { machine, pass, clock } = setUp(t);
  clock.costMs = 40;
  await pass(0);
  await pass(3999);
  t.is(machine.looks, 1);
  await pass(1);
  t.is(machine.looks, 2);
});

test('other ranges count at once, and without any what was announced is nothing', async (t) => {
  const { machine, announcer, pass, registry, listens } = setUp(t);
  await listens(at(3000), at(4000));
  announcer.setRanges([[4000, 4000]]);
  t.deepEqual(announcer.announced, [{ port: 4000, program: 'node' }]);
  announcer.setRanges(null);
  t.deepEqual([announcer.announced, registry.list()], [[], []]);
  await pass(0);
  const { looks } = machine;
  await pass(5000);
  t.is(machine.looks, looks);
});

test('stopped while it looks, it announces nothing', async (t) => {
  const { announcer, machine, clock, registry } = setUp(t);
  machine.listening = [at(3000)];
  announcer.stop();
  await setImmediate();
  t.deepEqual(registry.list(), []);
  t.is(clock.pending, 0);
});

test('a successor goes on with what was announced, by the same forwards', async (t) => {
  const { announcer, make, pass, forwards, listens } = setUp(t);
  await listens(at(3000));
  const before = forwards.list();
  announcer.stop();
  const successor = make(forwards, structuredClone(announcer.state));
  successor.setRanges([[3000, 9999]]);
  t.deepEqual(successor.announced, [{ port: 3000, program: 'node' }]);
  await pass(0);
  await pass(1000);
  t.deepEqual(forwards.list(), before);
  await listens();
  t.deepEqual([successor.announced, forwards.list()], [[], []]);
});
