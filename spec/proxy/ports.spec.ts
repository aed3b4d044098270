/** Announced ports, and listeners for them, on a manual clock. */
import { existsSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { AnnouncedPort } from '../../lib/codec/payloads.js';
import type { LogEvent } from '../../lib/events.js';
import { ResolvedNames } from '../../lib/forward/redirect/resolved-names.js';
import { ServiceRegistry } from '../../lib/forward/service-registry.js';
import { SessionSource } from '../../lib/forward/session-source.js';
import { type ForwardSpec, parseForwardSpec } from '../../lib/forward/spec.js';
import { StreamTally } from '../../lib/forward/stream-tally.js';
import { ForwardAddresses, ForwardTable } from '../../lib/proxy/forward-table.js';
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
import { formatPortRanges, isInRanges } from '../../lib/util/addresses/host-port.js';
import { temporaryFolder } from '../helpers/files.js';
import { freePort } from '../helpers/ports.js';
import { incoming, localServer, outgoing } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';
import './http-ports.js';

const range = (from: number, count: number) => Array.from({ length: count }, (_, index) => from + index);

test('up to 64 ports and ranges from 1024 up are accepted, in any order', (t) => {
  const ranges = parsePortRanges('18080,3000-9999');
  t.is(formatPortRanges(ranges), '3000-9999,18080');
  const isIn = [2999, 3000, 9999, 10_000, 18_080].map((port) => isInRanges(ranges, port));
  t.deepEqual(isIn, [false, true, true, false, true]);
  t.deepEqual(parsePortRanges('1024-65535'), [[1024, 65_535]]);
  const many = range(2000, 65).join(',');
  t.throws(() => parsePortRanges(many), { code: 'bad-argument', message: 'too many port ranges: 65 (max 64)' });
  const wrong = '|22|1023-3000|3000-|-3000|3000-2999|65536|3000-65536|3000 |0x1000|3000,,4000|a|3000,|99999999999';
  const message = /^".*": not a port or a range FROM-TO, from 1024 to 65535$/;
  for (const text of wrong.split('|')) {
    t.throws(() => parsePortRanges(text), { code: 'bad-argument', message }, text);
    t.throws(() => parsePortForwarding(text), { code: 'bad-argument' }, text);
  }
});

test('listeners are at an address, or in a folder', (t) => {
  for (const [text, value] of [
    ['3000-9999', { ranges: [[3000, 9999]] }],
    ['3000,address=0.0.0.0', { ranges: [[3000, 3000]], host: '0.0.0.0' }],
    ['3000,address=::1', { ranges: [[3000, 3000]], host: '::1' }],
    ['3000,dir=/run/a,,b/{channel}', { ranges: [[3000, 3000]], folder: '/run/a,b/{channel}' }],
  ] as const) {
    const parsed = parsePortForwarding(text);
    t.deepEqual(parsed as unknown, value, text);
    t.is(formatPortForwarding(parsed), text);
  }
  for (const [text, message] of [
    ['address=0.0.0.0', 'missing ports, such as 3000-9999'],
    ['3000,address=localhost', 'address=localhost is not an IP address, such as 127.0.0.1'],
    ['3000,address=::1,dir=/run', 'address= is not allowed with dir='],
    ['3000,dir=run', /absolute/],
    [`3000,dir=/${'x'.repeat(100)}`, /\(max 107\)$/],
    ['3000,path=/run', 'unknown option "path"; available: address, dir'],
    ['3000,dir=/a,dir=/b', 'option dir given twice'],
  ] as const)
    t.throws(() => parsePortForwarding(text), { code: 'bad-argument', message }, text);
});

test('a side that announces ports cannot offer a service with the name of a port', (t) => {
  t.notThrows(() =>
    requireNoPortService([...incoming('port.x:22', 'port:22', 'ports.1:22'), ...outgoing('port.3000:0')]),
  );
  t.throws(() => requireNoPortService(incoming('ssh:22', 'port.3000:3000')), {
    code: 'bad-argument',
    message: /^-i port\.3000: not allowed with --announce-ports/,
  });
});

// Announcing listening ports.

const at = (port: number, program: string | null = 'node', host = '127.0.0.1'): ListeningPort => {
  return { port, host, program };
};

function setUpAnnouncer(t: ExecutionContext) {
  const machine = { listening: [] as ListeningPort[], looks: 0, hasPeer: true, changes: 0, costMs: 0, usedMs: 0 };
  const table = forwardTable(t, () => void (machine.changes += 1));
  const { clock, forwards } = table;
  const make = (ports?: OwnPorts): PortAnnouncer => {
    let listed: readonly ListeningPort[] = [];
    const look = (isWanted: (port: number) => boolean, onlyKnown: boolean) => {
      const isKnown = (one: ListeningPort) => !onlyKnown || listed.some(({ port }) => port === one.port);
      const found = machine.listening.filter((one) => isWanted(one.port) && isKnown(one));
      if (!onlyKnown) {
        listed = found;
        machine.looks += 1;
        machine.usedMs += machine.costMs;
      }
      return Promise.resolve(found);
    };
    const processorMs = () => machine.usedMs;
    const announcer = new PortAnnouncer({ ...table, look, processorMs, hasPeer: () => machine.hasPeer }, ports);
    t.teardown(() => announcer.stop());
    announcer.setRanges([[3000, 9999]]);
    return announcer;
  };
  const announcer = make();
  /** Advances the clock, and completes the scans that become due. */
  const pass = async (ms: number): Promise<void> => {
    clock.advance(ms);
    await setImmediate();
  };
  /** Sets the listening ports, and advances the clock until they are announced. */
  const listens = async (...listening: readonly ListeningPort[]): Promise<void> => {
    machine.listening = [...listening];
    await pass(0);
    await pass(1000);
  };
  const ports = () => announcer.announced?.map(({ port }) => port);
  const targets = () => forwards.list().map(({ spec }) => spec);
  return { ...table, machine, announcer, make, pass, listens, ports, targets };
}

test('new ports are looked for while there is a peer, each second, or for a hundredth of the time of a processor', async (t) => {
  const { machine, announcer, pass, clock, ports } = setUpAnnouncer(t);
  const looksAfter = async (ms: number) => {
    await pass(ms);
    return machine.looks;
  };
  t.deepEqual([await looksAfter(0), await looksAfter(999), await looksAfter(1)], [1, 1, 2]);
  machine.hasPeer = false;
  t.deepEqual([await looksAfter(1000), await looksAfter(60_000)], [2, 2]);
  t.is(clock.pending, 0, 'without a peer nothing waits for a time');
  machine.hasPeer = true;
  clock.costMs = 400; // a busy machine
  t.deepEqual([(announcer.wake(), await looksAfter(0)), await looksAfter(1000)], [3, 4]);
  clock.costMs = 0;
  machine.costMs = 40;
  for (let turn = 0; turn < 2; turn += 1) announcer.wake();
  machine.listening = [at(3000), at(3001)];
  const seen: unknown[] = [];
  for (let second = 0; second < 5; second += 1) {
    seen.push([await looksAfter(1000), ports()]);
    machine.listening = [at(3001), at(3002)];
  }
  const [all, left, found] = [[3000, 3001], [3001], [3001, 3002]];
  t.deepEqual(
    seen,
    [
      [5, all],
      [5, left],
      [5, left],
      [5, left],
      [6, found],
    ],
    'those gone are seen each second',
  );
});

test('ports that listen in the ranges are announced, each with a service, for as long as they listen', async (t) => {
  const { machine, announcer, registry, targets, told, listens, forwards } = setUpAnnouncer(t);
  t.is(announcer.announced, null, 'nothing is known before the first look');
  // The service name of one of them is taken.
  await forwards.start(forwards.create(parseForwardSpec('incoming', 'port.3001:22')));
  await listens(at(2999), at(3000), at(3001), at(5432, null, '10.0.0.5'), at(10_000));
  t.deepEqual(announcer.announced, [
    { port: 3000, program: 'node' },
    { port: 5432, program: null },
  ]);
  t.deepEqual([...registry.list()].sort(), ['port.3000', 'port.3001', 'port.5432']);
  const own = targets()[0] ?? '';
  t.deepEqual(targets(), [own, 'port.3000:127.0.0.1:3000', 'port.5432:10.0.0.5:5432']);
  machine.changes = 0;
  await listens(at(5432, 'postgres', '::1'), at(5433), at(5434));
  t.is(machine.changes, 1, 'the peer hears once of all that one look has found');
  t.deepEqual(announcer.announced?.[0], { port: 5432, program: 'postgres' });
  t.true(targets().includes('port.5432:[::1]:5432') && !targets().includes('port.5432:10.0.0.5:5432'));
  await listens();
  t.deepEqual([announcer.announced, targets()], [[], [own]]);
  t.deepEqual(told().slice(0, 2), ['announcing port 3000 (node) to the peer', 'announcing port 5432 to the peer']);
});

test('at most 64 ports are announced: the lowest, and announced ones stay', async (t) => {
  const { listens, ports, registry } = setUpAnnouncer(t);
  const all = range(4000, 100).map((port) => at(port));
  for (const listening of [all, [at(3000), ...all]]) {
    await listens(...listening);
    t.deepEqual(ports(), range(4000, 64));
  }
  await listens(at(3000), ...all.slice(1));
  t.deepEqual(ports(), [3000, ...range(4001, 63)]);
  t.is(registry.list().length, 64);
});

test('removed forwards and ports outside of new ranges are withdrawn; after a stop nothing is announced', async (t) => {
  const { machine, announcer, make, pass, registry, listens, forwards, ports, clock } = setUpAnnouncer(t);
  await listens(at(3000), at(4000), at(5000));
  const [entry] = forwards.active;
  if (entry !== undefined) await forwards.remove(entry, true);
  await pass(1000);
  t.deepEqual(ports(), [4000, 5000]);
  announcer.setRanges([[5000, 5000]]);
  t.deepEqual(ports(), [5000]);
  announcer.setRanges(null);
  t.deepEqual([ports(), registry.list()], [[], []]);
  await pass(0);
  const { looks } = machine;
  await pass(5000);
  t.is(machine.looks, looks);
  make().stop();
  await pass(1000);
  t.deepEqual([registry.list(), clock.pending], [[], 0]);
});

test('a successor continues with the announced ports and the same forwards', async (t) => {
  const { announcer, make, pass, forwards, listens } = setUpAnnouncer(t);
  await listens(at(3000));
  const before = forwards.list();
  announcer.stop();
  const successor = make(structuredClone(announcer.state));
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
  const open = () =>
    forwards.active.flatMap(({ forward }) => /^port\.(\d+)$/.exec(forward.spec.service)?.[1] ?? []).sort();
  const isSettled = (numbers: readonly number[]) =>
    String(open()) === String([...numbers].sort()) && forwarder.obstacles().length === 0;
  /** Waits until the changes that are possible now are made, without advancing the clock. */
  const settled = (...numbers: readonly number[]): Promise<unknown> =>
    eventually(() => isSettled(numbers), { what: `the ports ${numbers.join(', ')} instead of ${open().join(', ')}` });
  /** Advances the clock until the wanted ports are open. */
  const pass = (...numbers: readonly number[]): Promise<unknown> =>
    eventually(() => {
      if (forwarder.obstacles().length === 0) clock.advance(250);
      return isSettled(numbers);
    });
  const endpointOf = (number: number) =>
    forwarder.ports.find(({ port }) => port === number)?.entry?.forward.endpointText ?? null;
  return { ...table, folder, folders, forwarder, make, open, settled, pass, endpointOf };
}

test('a port of the peer has a listener here for as long as it is announced', async (t) => {
  const { forwarder, folder, settled, pass, told, folders, endpointOf } = setUpForwarder(t);
  forwarder.update([{ port: 3000, program: 'node' }, ...ports(80, 2999)]);
  await settled(3000);
  const path = join(folder, '3000.sock');
  const modes = [path, folder].map((made) => statSync(made).mode & 0o777);
  t.deepEqual(modes, [0o600, 0o700]);
  t.deepEqual([3000, 80, 2999].map(endpointOf), [path, null, null]);
  forwarder.update([]);
  await pass();
  await eventually(() => !existsSync(path));
  folders.removeAll();
  t.false(existsSync(folder));
  const line = `listening on ${path} for port 3000 (node) of the peer`;
  t.deepEqual(told(), [line, `no longer ${line}`]);
});

test('on loopback a port keeps its number, or gets the next one that is free and not claimed by another port or forward', async (t) => {
  const { forwarder, forwards, settled, told, endpointOf } = setUpForwarder(t, '1024-65535');
  const { port: taken } = await localServer(t, () => undefined);
  const [free, paused] = [await freePort(), await freePort()];
  const entry = forwards.create(parseForwardSpec('outgoing', `ssh:127.0.0.1:${paused}`));
  await forwards.start(entry);
  forwards.pause(entry);
  forwarder.update(ports(taken, taken + 1, free, paused));
  await settled(taken, taken + 1, free, paused);
  const numberOf = (port: number) => Number(/\d+$/.exec(endpointOf(port) ?? '')?.[0]);
  t.is(numberOf(free), free);
  t.true(numberOf(taken) > taken + 1, 'the next one is the other port of the peer');
  t.true(numberOf(taken + 1) >= taken + 1);
  t.not(numberOf(paused), paused, 'also while the forward does not listen');
  const line = told().find((message) => message.endsWith(`for port ${taken} of the peer`));
  t.is(line, `listening on 127.0.0.1:${numberOf(taken)} (${taken} is already in use) for port ${taken} of the peer`);
});

test('at most four listeners a second are opened or closed, and 64 are open, whatever the peer announces in between', async (t) => {
  const { forwarder, clock, open, settled, pass, forwards } = setUpForwarder(t);
  const all = range(3000, 64);
  forwarder.update(ports(...all));
  await settled(...all.slice(0, 4));
  for (let turn = 0; turn < 1000; turn += 1) {
    forwarder.update(turn % 2 === 0 ? [] : ports(...all));
    forwarder.update(ports(...all.slice(turn % 64)));
  }
  t.is(open().length, 4);
  forwarder.update(ports(...range(2900, 200)));
  for (const count of [5, 6]) {
    clock.advance(250);
    await settled(...all.slice(0, count));
  }
  await pass(...all);
  t.is(forwards.active.length, 64);
  clock.advance(1000);
  forwarder.update([]);
  await eventually(() => open().length === 60);
  clock.advance(1000);
  await eventually(() => open().length === 56);
});

test('without a peer listeners stay for a while, and longer if it is back in time', async (t) => {
  const { forwarder, clock, settled, open } = setUpForwarder(t);
  forwarder.update(null);
  t.is(clock.pending, 0);
  forwarder.update(ports(3000));
  await settled(3000);
  const staysFor = (ms: number) => {
    clock.advance(ms);
    t.deepEqual(open(), ['3000'], `${clock.now()}`);
  };
  forwarder.update(null);
  staysFor(6000);
  forwarder.update(null);
  staysFor(3999);
  forwarder.update(ports(3000));
  staysFor(60_000);
  forwarder.update(null);
  staysFor(9999);
  clock.advance(1);
  await settled();
  t.deepEqual(forwarder.ports, []);
});

test('a listener that fails is logged once, and retried', async (t) => {
  const { forwarder, clock, folder, settled, told } = setUpForwarder(t);
  mkdirSync(folder);
  writeFileSync(join(folder, '3000.sock'), 'a file of somebody');
  forwarder.update(ports(3000, 3001));
  await settled(3001);
  clock.advance(60_000);
  await eventually(() => forwarder.obstacles().length === 0);
  t.deepEqual(told(), [
    `cannot listen for port 3000 of the peer: cannot listen on ${folder}/3000.sock: exists and is not a socket; retrying`,
    `listening on ${folder}/3001.sock for port 3001 of the peer`,
  ]);
  rmSync(join(folder, '3000.sock'));
  clock.advance(5000);
  await settled(3000, 3001);
});

test('a new rule closes and moves listeners; one that a user removed stays removed until it is announced again', async (t) => {
  const { forwarder, forwards, folder, settled, pass, endpointOf } = setUpForwarder(t);
  forwarder.update(ports(3000, 4000));
  await settled(3000, 4000);
  forwarder.setRule(parsePortForwarding(`4000-4001,dir=${folder}`));
  await settled(4000);
  forwarder.setRule(parsePortForwarding(`4000-4001,dir=${folder}2`));
  await pass(4000);
  t.is(endpointOf(4000), `${folder}2/4000.sock`);
  const [entry] = forwards.active;
  if (entry !== undefined) await forwards.remove(entry, false);
  forwarder.update(ports(4000, 4001));
  await pass(4001);
  t.is(endpointOf(4000), null);
  forwarder.update(ports(4001));
  forwarder.update(ports(4000, 4001));
  await pass(4000, 4001);
  forwarder.setRule(null);
  await pass();
});

test('a successor continues with the listeners, and with their remaining time', async (t) => {
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

// The forwards of a channel without a session, for code that adds and removes them.

/** Uses a manual clock; stopped when the test ends. */
function forwardTable(t: ExecutionContext, onServices: () => void = () => undefined) {
  const clock = new ManualClock();
  const events: LogEvent[] = [];
  const registry = new ServiceRegistry({ onChange: onServices });
  const addresses = new ForwardAddresses();
  let count = 0;
  const log = (event: LogEvent): void => void events.push(event);
  const forwards = new ForwardTable({
    channel: 'vm1',
    source: new SessionSource(clock),
    registry,
    log,
    clock,
    waitMs: 10_000,
    maxStreams: 10,
    preamble: null,
    filters: () => null,
    egress: () => null,
    names: new ResolvedNames(clock),
    offered: () => null,
    tallyOf: () => new StreamTally(),
    nextId: () => `f${(count += 1)}`,
    addresses,
    onListening: () => undefined,
  });
  t.teardown(() => forwards.stop());
  /** Returns the logged lines about ports, and clears them. */
  const told = (): string[] => {
    const lines = events.filter(({ event }) => event.startsWith('port-')).map(({ message }) => message);
    events.length = 0;
    return lines;
  };
  return { clock, registry, addresses, forwards, log, told };
}
