/** Ports that are announced, and listened for, on a clock that is moved by hand. */

import { existsSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { AnnouncedPort } from '../../lib/codec/payloads.js';
import { type ForwardSpec, parseForwardSpec } from '../../lib/forward/spec.js';
import { OwnFolders } from '../../lib/proxy/groups/channel-group.js';
import { type OwnPorts, PortAnnouncer } from '../../lib/proxy/ports/port-announcer.js';
import { type PeerPortsState, PortForwarder } from '../../lib/proxy/ports/port-forwarder.js';
import {
  formatPortForwarding,
  parsePortForwarding,
  parsePortRanges,
  requireNoPortService,
} from '../../lib/proxy/ports/port-rules.js';
import type { ListeningPort } from '../../lib/system/proc/listening-ports.js';
import { formatPortRanges, isInRanges } from '../../lib/util/addresses.js';
import { temporaryFolder } from '../helpers/files.js';
import { forwardTable } from '../helpers/forward-tables.js';
import { freePort } from '../helpers/ports.js';
import { localServer } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

test('ranges are ports and pairs of ports, in any order', (t) => {
  const ranges = parsePortRanges('18080,3000-9999');
  t.deepEqual(ranges, [
    [3000, 9999],
    [18_080, 18_080],
  ]);
  t.is(formatPortRanges(ranges), '3000-9999,18080');
  for (const [port, isIn] of [
    [2999, false],
    [3000, true],
    [9999, true],
    [10_000, false],
    [18_080, true],
  ] as const)
    t.is(isInRanges(ranges, port), isIn, String(port));
  t.deepEqual(parsePortRanges('1024-65535'), [[1024, 65_535]]);
});

const NO_RANGES = '|22|1023-3000|3000-|-3000|3000-2999|65536|3000-65536|3000 |0x1000|3000,,4000|a|3000,|99999999999';

for (const text of NO_RANGES.split('|'))
  test(`no ranges of ports: "${text}"`, (t) => {
    t.throws(() => parsePortRanges(text), {
      code: 'bad-argument',
      message: /^".*" is not a port, or two with a hyphen, from 1024 to 65535$/,
    });
    t.throws(() => parsePortForwarding(text), { code: 'bad-argument' });
  });

test('more than 64 ranges are refused', (t) => {
  const text = Array.from({ length: 65 }, (_, index) => 2000 + index).join(',');
  t.throws(() => parsePortRanges(text), { code: 'bad-argument', message: '65 ranges of ports exceed 64' });
});

for (const [text, value] of [
  ['3000-9999', { ranges: [[3000, 9999]] }],
  ['3000,address=0.0.0.0', { ranges: [[3000, 3000]], host: '0.0.0.0' }],
  ['3000,address=::1', { ranges: [[3000, 3000]], host: '::1' }],
  ['3000,dir=/run/a,,b/{channel}', { ranges: [[3000, 3000]], folder: '/run/a,b/{channel}' }],
] as const)
  test(`where ports are listened for: ${text}`, (t) => {
    const parsed = parsePortForwarding(text);
    t.deepEqual(parsed as unknown, value);
    t.is(formatPortForwarding(parsed), text);
  });

for (const [text, message] of [
  ['address=0.0.0.0', 'there are no ports, such as 3000-9999'],
  ['3000,address=localhost', 'address=localhost is not an IP address, such as 127.0.0.1'],
  ['3000,address=::1,dir=/run', 'address= and dir= cannot stand together'],
  ['3000,dir=run', /absolute/],
  [`3000,dir=/${'x'.repeat(100)}`, /exceeds 107$/],
  ['3000,path=/run', 'there is no option "path" here; there are: address, dir'],
  ['3000,dir=/a,dir=/b', 'the option dir is there twice'],
] as const)
  test(`ports are not listened for: ${text.slice(0, 40)}`, (t) => {
    t.throws(() => parsePortForwarding(text), { code: 'bad-argument', message });
  });

test('a side that announces ports offers no service with the name of a port', (t) => {
  const forwards = (...texts: string[]) => texts.map((text) => parseForwardSpec('incoming', text));
  t.notThrows(() =>
    requireNoPortService([
      ...forwards('port.x:22', 'port:22', 'ports.1:22'),
      parseForwardSpec('outgoing', 'port.3000:0'),
    ]),
  );
  t.throws(() => requireNoPortService(forwards('ssh:22', 'port.3000:3000')), {
    code: 'bad-argument',
    message: /^-i port\.3000: with --announce-ports/,
  });
});

// What is announced of what listens.

const range = (from: number, count: number) => Array.from({ length: count }, (_, index) => from + index);

const at = (port: number, program: string | null = 'node', host = '127.0.0.1'): ListeningPort => {
  return { port, host, program };
};

function setUpAnnouncer(t: ExecutionContext) {
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
  const { machine, announcer, pass, clock } = setUpAnnouncer(t);
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
  const { announcer, registry, forwards, told, listens } = setUpAnnouncer(t);
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
  const { machine, listens } = setUpAnnouncer(t);
  await listens(...range(3000, 50).map((port) => at(port)));
  machine.changes = 0;
  await listens(...range(3025, 50).map((port) => at(port)));
  t.is(machine.changes, 1);
});

test('a port at another address is dialled there, by a forward of its own', async (t) => {
  const { announcer, forwards, listens } = setUpAnnouncer(t);
  await listens(at(3000));
  await listens(at(3000, 'node', '::1'));
  const [forward, ...others] = forwards.list();
  t.deepEqual([forward?.endpoint, others], ['[::1]:3000', []]);
  t.deepEqual(announcer.announced, [{ port: 3000, program: 'node' }]);
});

test('at most 64 are announced: the lowest, and what is announced stays', async (t) => {
  const { listens, ports, registry } = setUpAnnouncer(t);
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
  const { announcer, forwards, told, listens } = setUpAnnouncer(t);
  await forwards.start(forwards.create(parseForwardSpec('incoming', 'port.3000:22')));
  await listens(at(3000), at(3001));
  t.deepEqual(announcer.announced, [{ port: 3001, program: 'node' }]);
  t.deepEqual(told(), ['port 3001 (node) is announced to the peer']);
});

test('a forward of a port that people remove is announced no more', async (t) => {
  const { announcer, pass, forwards, listens } = setUpAnnouncer(t);
  await listens(at(3000));
  const [entry] = forwards.active;
  t.truthy(entry);
  if (entry !== undefined) await forwards.remove(entry, true);
  await pass(1000);
  t.deepEqual(announcer.announced, []);
});

test('looks that take long come less often: a hundredth of the time', async (t) => {
  const { machine, pass, clock } = setUpAnnouncer(t);
  clock.costMs = 40;
  await pass(0);
  await pass(3999);
  t.is(machine.looks, 1);
  await pass(1);
  t.is(machine.looks, 2);
});

test('other ranges count at once, and without any what was announced is nothing', async (t) => {
  const { machine, announcer, pass, registry, listens } = setUpAnnouncer(t);
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
  const { announcer, machine, clock, registry } = setUpAnnouncer(t);
  machine.listening = [at(3000)];
  announcer.stop();
  await setImmediate();
  t.deepEqual(registry.list(), []);
  t.is(clock.pending, 0);
});

test('a successor goes on with what was announced, by the same forwards', async (t) => {
  const { announcer, make, pass, forwards, listens } = setUpAnnouncer(t);
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

// The listeners for the ports of a peer.

const ports = (...numbers: readonly number[]): AnnouncedPort[] => numbers.map((port) => ({ port, program: null }));

function setUpForwarder(t: ExecutionContext, rule: string | null = null) {
  const folder = join(temporaryFolder(t), 'ports');
  const table = forwardTable(t);
  const { clock, forwards } = table;
  const folders = new OwnFolders();
  const make = (state?: PeerPortsState): PortForwarder => {
    const makeFolder = (spec: ForwardSpec) => void folders.make('vm1', [spec]);
    const forwarder = new PortForwarder({ ...table, label: 'vm1', waitMs: 10_000, makeFolder }, state);
    t.teardown(() => forwarder.stop());
    forwarder.setRule(parsePortForwarding(rule ?? `3000-9999,dir=${folder}`));
    return forwarder;
  };
  const forwarder = make();
  const open = (): number[] => forwards.active.map(({ forward }) => Number(/\d+$/.exec(forward.spec.service)?.[0]));
  /** Waits for what the clock does not announce: that the changes which may be made now are made. */
  const settled = (...numbers: readonly number[]): Promise<unknown> =>
    eventually(() => String(open().sort()) === String([...numbers].sort()) && forwarder.obstacles().length === 0, {
      what: `the ports ${numbers.join(', ')} instead of ${open().join(', ')}`,
    });
  /** Time in which all that is wanted is done. */
  const pass = async (...numbers: readonly number[]): Promise<void> => {
    await eventually(() => {
      if (forwarder.obstacles().length === 0) clock.advance(250);
      return String(open().sort()) === String([...numbers].sort()) && forwarder.obstacles().length === 0;
    });
  };
  return { ...table, folder, folders, forwarder, make, open, settled, pass };
}

test('a port of the peer has a listener here for as long as it is announced', async (t) => {
  const { forwarder, folder, settled, pass, told, folders } = setUpForwarder(t);
  forwarder.update([
    { port: 3000, program: 'node' },
    { port: 80, program: 'root' },
    { port: 2999, program: null },
  ]);
  await settled(3000);
  const path = join(folder, '3000.sock');
  t.is(statSync(path).mode & 0o777, 0o600);
  t.is(statSync(folder).mode & 0o777, 0o700);
  t.deepEqual(
    forwarder.ports.map(({ port, program, entry }) => [port, program, entry?.forward.endpointText ?? null]),
    [
      [3000, 'node', path],
      [80, 'root', null],
      [2999, null, null],
    ],
  );
  forwarder.update([]);
  await pass();
  await eventually(() => !existsSync(path));
  folders.removeAll();
  t.false(existsSync(folder));
  t.deepEqual(told(), [
    `port 3000 (node) of the peer is at ${path} here`,
    `port 3000 (node) of the peer is at ${path} no more`,
  ]);
});

test('on loopback a port has the number here that it has there, or else the next free one that is no other announced port', async (t) => {
  const { forwarder, settled, told } = setUpForwarder(t, '1024-65535');
  const { port: taken } = await localServer(t, () => undefined);
  const free = await freePort();
  forwarder.update(ports(taken, taken + 1, free));
  await settled(taken, taken + 1, free);
  const endpointOf = (number: number): number =>
    Number(/\d+$/.exec(forwarder.ports.find((one) => one.port === number)?.entry?.forward.endpointText ?? '')?.[0]);
  t.is(endpointOf(free), free);
  t.true(endpointOf(taken) > taken + 1, 'the next one is the other port of the peer');
  t.true(endpointOf(taken + 1) >= taken + 1);
  const line = told().find((message) => message.startsWith(`port ${taken} of`));
  t.is(line, `port ${taken} of the peer is at 127.0.0.1:${endpointOf(taken)} here, as ${taken} is taken`);
});

test('the address of another forward is not taken, also while that does not listen', async (t) => {
  const { forwarder, forwards } = setUpForwarder(t, '1024-65535');
  const port = await freePort();
  const entry = forwards.create(parseForwardSpec('outgoing', `ssh:127.0.0.1:${port}`));
  await forwards.start(entry);
  forwards.pause(entry);
  forwarder.update(ports(port));
  const found = await eventually(() => forwarder.obstacles().length === 0 && forwarder.ports[0]?.entry);
  t.not(found.forward.endpointText, `127.0.0.1:${port}`);
});

test('at most four listeners a second are opened or closed, whatever the peer says in between', async (t) => {
  const { forwarder, clock, open, settled, forwards } = setUpForwarder(t);
  const all = range(3000, 64);
  forwarder.update(ports(...all));
  await settled(...all.slice(0, 4));
  for (let turn = 0; turn < 1000; turn += 1) {
    forwarder.update(turn % 2 === 0 ? [] : ports(...all));
    forwarder.update(ports(...all.slice(turn % 64)));
  }
  t.is(open().length, 4);
  forwarder.update(ports(...all));
  for (const count of [5, 6]) {
    clock.advance(250);
    await settled(...all.slice(0, count));
  }
  forwarder.update([]);
  for (const count of [2, 0]) {
    clock.advance(1000);
    await eventually(() => open().length === count);
  }
  t.is(forwards.list().length, 0);
});

test('64 ports are all that are listened for, of whatever is announced', async (t) => {
  const { forwarder, pass, forwards } = setUpForwarder(t);
  const all = range(2900, 200);
  forwarder.update(ports(...all));
  await pass(...all.slice(100, 164));
  t.is(forwards.active.length, 64);
});

test('without word of the peer listeners stay for a while, and longer where it is back in time', async (t) => {
  const { forwarder, clock, settled, open } = setUpForwarder(t);
  forwarder.update(null);
  t.is(clock.pending, 0);
  forwarder.update(ports(3000));
  await settled(3000);
  forwarder.update(null);
  clock.advance(6000);
  forwarder.update(null);
  clock.advance(3999);
  t.deepEqual(open(), [3000]);
  forwarder.update(ports(3000));
  clock.advance(60_000);
  t.deepEqual(open(), [3000]);
  forwarder.update(null);
  clock.advance(9999);
  t.deepEqual(open(), [3000]);
  clock.advance(1);
  await settled();
  t.deepEqual(forwarder.ports, []);
});

test('what cannot be listened for is told once, and tried again', async (t) => {
  const { forwarder, clock, folder, settled, told } = setUpForwarder(t);
  mkdirSync(folder);
  writeFileSync(join(folder, '3000.sock'), 'a file of somebody');
  forwarder.update(ports(3000, 3001));
  await settled(3001);
  clock.advance(60_000);
  await eventually(() => forwarder.obstacles().length === 0);
  t.deepEqual(told(), [
    `port 3000 of the peer is not listened for: cannot listen on ${folder}/3000.sock: it exists and is not a socket`,
    `port 3001 of the peer is at ${folder}/3001.sock here`,
  ]);
  rmSync(join(folder, '3000.sock'));
  clock.advance(5000);
  await settled(3000, 3001);
});

test('a rule that says less closes what it does not say, and one that says elsewhere opens it there', async (t) => {
  const { forwarder, folder, settled, pass } = setUpForwarder(t);
  forwarder.update(ports(3000, 4000));
  await settled(3000, 4000);
  forwarder.setRule(parsePortForwarding(`4000,dir=${folder}`));
  await settled(4000);
  forwarder.setRule(parsePortForwarding(`4000,dir=${folder}2`));
  await pass(4000);
  t.is(forwarder.ports[1]?.entry?.forward.endpointText, `${folder}2/4000.sock`);
  forwarder.setRule(null);
  await pass();
});

test('a listener that people remove stays away until the port is announced anew', async (t) => {
  const { forwarder, forwards, settled, pass, clock } = setUpForwarder(t);
  forwarder.update(ports(3000));
  await settled(3000);
  const [entry] = forwards.active;
  if (entry !== undefined) await forwards.remove(entry, false);
  forwarder.update(ports(3000, 3001));
  await settled(3001);
  t.is(forwarder.ports[0]?.entry, null);
  forwarder.update(ports(3001));
  clock.advance(1000);
  forwarder.update(ports(3000, 3001));
  await pass(3000, 3001);
});

test('a successor goes on with the listeners, and with the time that they still have', async (t) => {
  const { forwarder, make, forwards, settled, clock } = setUpForwarder(t);
  forwarder.update([{ port: 3000, program: 'node' }]);
  await settled(3000);
  forwarder.update(null);
  clock.advance(4000);
  forwarder.stop();
  t.is(clock.pending, 0, 'stopped, it does nothing more');
  const successor = make(structuredClone(forwarder.state));
  t.is(successor.ports[0]?.entry, forwards.active[0]);
  clock.advance(5999);
  t.is(successor.ports[0]?.program, 'node');
  clock.advance(1);
  await eventually(() => forwards.list().length === 0);
});
