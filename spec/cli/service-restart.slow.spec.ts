/** A service is restarted while its service manager keeps its listening sockets: connections wait, and nobody is refused. */
import { once } from 'node:events';
import { chmodSync, existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { storedName } from '../../cli/service/stored-listeners.js';
import { openDatagramManager } from '../helpers/datagram-manager.js';
import { temporaryFolder } from '../helpers/files.js';
import { freePort } from '../helpers/ports.js';
import { echo, localServer, localSocket } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { runVproxy, spawnVproxy, type VproxyProcess } from '../helpers/vproxy-process.js';

const SYSTEM = { WATCHDOG_USEC: '0', JOURNAL_STREAM: '' };
/** The process is the one that the words are for. */
const LAUNCHER = ['/bin/sh', '-c', 'LISTEN_PID=$$ exec "$@"', 'sh'];

/** A service, and a manager that keeps what it is given. */
async function makeService(t: ExecutionContext) {
  const folder = temporaryFolder(t);
  // What is told in plain words is not what this is about.
  const notify = join(folder, 'systemd-notify');
  writeFileSync(notify, '#!/bin/sh\n');
  chmodSync(notify, 0o755);
  const manager = await openDatagramManager(t);
  const kept = new Map<string, number>();
  const removed: string[] = [];
  const look = (): void => {
    for (const { facts, descriptors } of manager.receive()) {
      const name = facts.find((fact) => fact.startsWith('FDNAME='))?.slice(7) ?? '';
      const [fd] = descriptors;
      if (facts.includes('FDSTORE=1') && fd !== undefined) {
        t.false(kept.has(name), name);
        kept.set(name, fd);
      }
      if (facts.includes('FDSTOREREMOVE=1')) {
        t.true(kept.delete(name), name);
        removed.push(name);
      }
    }
  };
  const start = (...args: string[]): VproxyProcess => {
    const names = [...kept.keys()].join(':');
    const env = { ...SYSTEM, PATH: folder, NOTIFY_SOCKET: manager.address, FDSTORE: '16', LISTEN_FDNAMES: names };
    const inherited = [...kept.values()];
    return spawnVproxy(t, args, { env: { ...env, LISTEN_FDS: String(kept.size) }, inherited, launcher: LAUNCHER });
  };
  /** What is kept, in the order of the names. */
  const names = (): string[] => {
    look();
    return [...kept.keys()].sort();
  };
  return { folder, start, names, removed };
}

test('while the process is away connections wait; the next one has them, and the same sockets', async (t) => {
  t.timeout(120_000);
  const { folder, start, names, removed } = await makeService(t);
  const [channel, socket, control] = ['channel', 'echo', 'control'].map((name) => join(folder, `${name}.sock`));
  const port = await freePort();
  const target = await localServer(t, echo);
  const peer = ['-c', `unix-connect:${channel}`, '-i', `echo:${target.port}`, '-i', `other:${target.port}`];
  spawnVproxy(t, peer, { env: SYSTEM });
  const args = [
    '-c',
    `unix-listen:${channel}`,
    '-o',
    `echo:${port}`,
    '-o',
    `other:${socket}`,
    '--control',
    control ?? '',
  ];
  const first = start(...args);
  await eventually(() => names().length === 4, { what: 'four sockets' });
  const before = names();
  t.true(before.includes(storedName(`tcp 127.0.0.1:${port}`)));
  const files = readdirSync(folder);
  const ends = [
    (process: VproxyProcess) => process.stop(),
    async (process: VproxyProcess) => {
      t.is((await runVproxy(['drain', '--socket', control ?? ''])).code, 0);
      return process.exited;
    },
    (process: VproxyProcess) => {
      process.kill('SIGKILL');
      return process.exited;
    },
  ];
  let process = first;
  for (const end of ends) {
    await end(process);
    t.deepEqual(names(), before);
    t.deepEqual(readdirSync(folder), files);
    const waiting = [{ host: '127.0.0.1', port }, { path: socket ?? '' }].map((address) => localSocket(t, address));
    await Promise.all(waiting.map((connection) => once(connection, 'connect')));
    process = start(...args);
    for (const connection of waiting) {
      connection.end('hello');
      t.deepEqual(await once(connection, 'data'), [Buffer.from('hello')]);
    }
    t.is((await runVproxy(['status', '--socket', control ?? ''])).code, 0);
  }
  t.deepEqual([names(), removed], [before, []]);
  t.is((await runVproxy(['forward', 'remove', 'other', '--socket', control ?? ''])).code, 0);
  t.deepEqual(names().length, 3);
  t.false(existsSync(socket ?? ''), 'a forward that goes for good takes its file with it');
});

test('what the next process has no use for is closed, and is not in its way', async (t) => {
  t.timeout(120_000);
  const { folder, start, names, removed } = await makeService(t);
  const channel = ['-c', `unix-connect:${folder}/channel.sock`];
  const path = join(folder, 'echo.sock');
  const ports = [await freePort(), await freePort()];
  const first = start(...channel, '-o', `one:${ports[0]}`, '-o', `two:${ports[1]}`, '-o', `three:${path}`);
  await eventually(() => names().length === 3, { what: 'three sockets' });
  await first.stop();
  // Other addresses, which the ones that are kept are part of, and other permissions.
  const next = start(...channel, '-o', `one:0.0.0.0:${ports[0]}`, '-o', `three:${path},mode=0660`);
  await eventually(() => names().length === 2 && removed.length === 3, { what: 'two sockets' });
  t.true(names().includes(storedName(`tcp 0.0.0.0:${ports[0]}`)));
  const connection = localSocket(t, { path });
  await once(connection, 'connect');
  const refused = localSocket(t, { host: '127.0.0.1', port: ports[1] ?? 0 });
  await t.throwsAsync(once(refused, 'connect'), { code: 'ECONNREFUSED' });
  await next.stop();
  // Nothing is in the way of this one.
  start(...channel, '-o', `one:0.0.0.0:${ports[0]}`);
  await eventually(() => names().length === 1 && removed.length === 4, { what: 'one socket' });
});
