/** The listeners for the ports of a peer, on a clock that is moved by hand. */
import { existsSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { AnnouncedPort } from '../../../lib/codec/payloads.js';
import { type ForwardSpec, parseForwardSpec } from '../../../lib/forward/spec.js';
import { OwnFolders } from '../../../lib/proxy/groups/channel-group.js';
import { type PeerPortsState, PortForwarder } from '../../../lib/proxy/ports/port-forwarder.js';
import { parsePortForwarding } from '../../../lib/proxy/ports/port-rules.js';
import { temporaryFolder } from '../../helpers/files.js';
import { forwardTable } from '../../helpers/forward-tables.js';
import { freePort } from '../../helpers/ports.js';
import { localServer } from '../../helpers/proxies.js';
import { eventually } from '../../helpers/time.js';

const ports = (...numbers: readonly number[]): AnnouncedPort[] => numbers.map((port) => ({ port, program: null }));

function setUp(t: ExecutionContext, rule: string | null = null) {
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
  const { forwarder, folder, settled, pass, told, folders } = setUp(t);
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

test('on loopback a port has the number here that it has there', async (t) => {
  const { forwarder, settled } = setUp(t, '1024-65535');
  const port = await freePort();
  forwarder.update(ports(port));
  await settled(port);
  t.is(forwarder.ports[0]?.entry?.forward.endpointText, `127.0.0.1:${port}`);
});

test('a port that is taken here gets the next free one, which is no other announced port', async (t) => {
  const { port: first } = await localServer(t, () => undefined);
  const { forwarder, settled, told } = setUp(t, '1024-65535');
  forwarder.update(ports(first, first + 1));
  await settled(first, first + 1);
  const endpointOf = (number: number): number =>
    Number(/\d+$/.exec(forwarder.ports.find((one) => one.port === number)?.entry?.forward.endpointText ?? '')?.[0]);
  t.true(endpointOf(first) > first + 1, 'the next one is the other port of the peer');
  t.true(endpointOf(first + 1) >= first + 1);
  const line = told().find((message) => message.startsWith(`port ${first} of`));
  t.is(line, `port ${first} of the peer is at 127.0.0.1:${endpointOf(first)} here, as ${first} is taken`);
});

test('the address of another forward is not taken, also while that does not listen', async (t) => {
  const { forwarder, forwards } = setUp(t, '1024-65535');
  const port = await freePort();
  const entry = forwards.create(parseForwardSpec('outgoing', `ssh:127.0.0.1:${port}`));
  await forwards.start(entry);
  forwards.pause(entry);
  forwarder.update(ports(port));
  const found = await eventually(() => forwarder.obstacles().length === 0 && forwarder.ports[0]?.entry);
  t.not(found.forward.endpointText, `127.0.0.1:${port}`);
});

test('at most four listeners a second are opened or closed, whatever the peer says in between', async (t) => {
  const { forwarder, clock, open, settled, forwards } = setUp(t);
  const all = Array.from({ length: 64 }, (_, index) => 3000 + index);
  forwarder.update(ports(...all));
  await settled(...all.slice(0, 4));
  for (let turn = 0; turn < 1000; turn += 1) {
    forwarder.update(turn % 2 === 0 ? [] : ports(...all));
    forwarder.update(ports(...all.slice(turn % 64)));
  }
  t.is(open().length, 4);
  forwarder.update(ports(...all));
  clock.advance(250);
  await settled(...all.slice(0, 5));
  clock.advance(250);
  await settled(...all.slice(0, 6));
  forwarder.update([]);
  clock.advance(1000);
  await eventually(() => open().length === 2);
  clock.advance(1000);
  await eventually(() => open().length === 0);
  t.is(forwards.list().length, 0);
});

test('64 ports are all that are listened for, of whatever is announced', async (t) => {
  const { forwarder, pass, forwards } = setUp(t);
  const all = Array.from({ length: 200 }, (_, index) => 2900 + index);
  forwarder.update(ports(...all));
  await pass(...all.slice(100, 164));
  t.is(forwards.active.length, 64);
});

test('without word of the peer listeners stay for a while, and longer where it is back in time', async (t) => {
  const { forwarder, clock, settled, open } = setUp(t);
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
  const { forwarder, clock, folder, settled, told } = setUp(t);
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
  const { forwarder, folder, settled, pass } = setUp(t);
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
  const { forwarder, forwards, settled, pass, clock } = setUp(t);
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
  const { forwarder, make, forwards, settled, clock } = setUp(t);
  forwarder.update([{ port: 3000, program: 'node' }]);
  await settled(3000);
  forwarder.update(null);
  clock.advance(4000);
  forwarder.stop();
  const successor = make(structuredClone(forwarder.state));
  t.is(successor.ports[0]?.entry, forwards.active[0]);
  clock.advance(5999);
  t.is(successor.ports[0]?.program, 'node');
  clock.advance(1);
  await eventually(() => forwards.list().length === 0);
});

test('stopped, it opens nothing more', async (t) => {
  const { forwarder, clock, settled, forwards } = setUp(t);
  forwarder.update(ports(...Array.from({ length: 10 }, (_, index) => 3000 + index)));
  await settled(3000, 3001, 3002, 3003);
  forwarder.stop();
  t.is(clock.pending, 0);
  t.is(forwards.active.length, 4);
  t.true(forwards.active.every(({ forward }) => net.isIP(forward.endpointText) === 0));
});
