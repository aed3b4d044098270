/** vproxy as a service: notifications to a service manager, inherited sockets, also of its predecessor, and journal lines. */
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { storedName } from '../../cli/service/stored-listeners.js';
import { loadLibc } from '../../lib/system/libc.js';
import { openDatagramManager } from '../helpers/datagram-manager.js';
import { temporaryFolder } from '../helpers/files.js';
import { freePort } from '../helpers/ports.js';
import { answerTo, echo, localServer, localSocket, refusal } from '../helpers/proxies.js';
import { testWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { ESTABLISHED, runVproxy, spawnVproxy, type VproxyProcess } from '../helpers/vproxy-process.js';

const withNotify = testWith('systemd');

/** A service manager that listens all the time, and what it has been told so far. */
async function openNotifySocket(t: ExecutionContext) {
  const { address, receive } = await openDatagramManager(t);
  const told: string[] = [];
  const turn = setInterval(() => told.push(...receive().flatMap(({ facts }) => facts)), 5);
  t.teardown(() => clearInterval(turn));
  return { path: address, facts: told };
}

const SYSTEM = { NOTIFY_SOCKET: '', WATCHDOG_USEC: '0', JOURNAL_STREAM: '' };

/** Options of a process with inherited descriptors; LISTEN_PID must be its own PID. */
const handing = (names: string, descriptors: readonly number[], env: Readonly<Record<string, string>> = SYSTEM) => ({
  env: { ...env, LISTEN_FDS: String(descriptors.length), LISTEN_FDNAMES: names },
  inherited: descriptors,
  launcher: ['/bin/sh', '-c', 'LISTEN_PID=$$ exec "$@"', 'sh'],
});

withNotify('the status begins with what is in effect instead of options that were refused', async (t) => {
  const { path, facts } = await openNotifySocket(t);
  const env = { ...SYSTEM, NOTIFY_SOCKET: path, VPROXY_OPTIONS_REFUSED: 'none' };
  const vproxy = spawnVproxy(t, ['-c', `unix-connect:${temporaryFolder(t)}/none.sock`], { env });
  await eventually(() => facts.length >= 2);
  t.regex(facts[1] ?? '', /^STATUS=VPROXY_OPTIONS was refused; none are in effect; no session/);
  await vproxy.stop();
});

withNotify('it is ready without a peer, reports a session, feeds the watchdog, and announces its end', async (t) => {
  const folder = temporaryFolder(t);
  const { path, facts } = await openNotifySocket(t);
  const env = { ...SYSTEM, NOTIFY_SOCKET: path, WATCHDOG_USEC: '400000' };
  const address = `${folder}/channel.sock`;
  const vproxy = spawnVproxy(t, ['-c', `unix-connect:${address}`, '--control', `${folder}/control.sock`], { env });
  await eventually(() => facts.length >= 2);
  t.is(facts[0], 'READY=1');
  t.regex(facts[1] ?? '', /^STATUS=no session, (?:opening|backing-off)/);
  t.true(existsSync(`${folder}/control.sock`), 'readiness promises that requests are answered');
  await eventually(() => facts.filter((fact) => fact === 'WATCHDOG=1').length >= 3);
  const peer = spawnVproxy(t, ['-c', `unix-listen:${address}`, '--name', 'guest1'], { env: SYSTEM });
  await vproxy.waitForLine(ESTABLISHED);
  await eventually(() => facts.some((fact) => /^STATUS=session with guest1 \(vproxy .+\)$/.test(fact)));
  await peer.stop();
  await eventually(() => /^STATUS=no session/.test(facts.findLast((fact) => fact.startsWith('STATUS=')) ?? ''));
  t.is((await vproxy.stop()).code, 0);
  await eventually(() => facts.includes('STOPPING=1'));
  t.is(facts.filter((fact) => fact === 'READY=1').length, 1);
});

withNotify('it is not ready where it cannot listen, and its programs do not see what the manager said', async (t) => {
  const folder = temporaryFolder(t);
  const { path, facts } = await openNotifySocket(t);
  const env = { ...SYSTEM, NOTIFY_SOCKET: path, WATCHDOG_USEC: '60000000' };
  const args = ['-c', `unix-listen:${folder}/channel.sock`, '-o', `ssh:${folder}`];
  t.is((await spawnVproxy(t, args, { env }).exited).code, 69);
  t.false(facts.includes('READY=1'));
  const seen = join(folder, 'environment');
  spawnVproxy(t, ['-c', `exec:env > ${seen}.new; mv ${seen}.new ${seen}; exec sleep 60`], { env });
  const text = await eventually(() => readFileSync(seen, 'utf8'));
  t.regex(text, /^PATH=/m);
  t.notRegex(text, /^(?:NOTIFY|WATCHDOG|LISTEN)_/m);
});

/** A listening socket that accepts no connection itself. */
async function heldSocket(t: ExecutionContext, path: string): Promise<number> {
  const libc = await loadLibc();
  const [unix, streamWithCloexec] = [1, 0o2000001];
  const fd = libc.declare('int socket(int domain, int type, int protocol)')(unix, streamWithCloexec, 0);
  t.teardown(() => closeSync(fd));
  const address = Buffer.from(`\x01\0${path}\0`);
  t.is(libc.declare('int bind(int fd, const void *address, unsigned int length)')(fd, address, address.length), 0);
  t.is(libc.declare('int listen(int fd, int backlog)')(fd, 8), 0);
  return fd;
}

test('an inherited socket is the control socket, and survives the process; commands that end it do not start a new one', async (t) => {
  for (const command of ['stop', 'drain']) {
    const folder = temporaryFolder(t);
    const path = join(folder, 'control.sock');
    const fd = await heldSocket(t, path);
    const args = ['-c', `unix-listen:${folder}/channel.sock`, '--control', path];
    const vproxy = spawnVproxy(t, args, handing('other:control', [fd, fd]));
    await vproxy.waitForLine(/listening on the socket passed by systemd \(descriptor 4\) for control requests/);
    const { stdout } = await runVproxy(['status', '--socket', path]);
    t.regex(stdout, new RegExp(`process ${vproxy.pid},`));
    // A client that connects afterwards waits forever.
    const { code, stderr } = await runVproxy([command, '--socket', path]);
    t.deepEqual({ code, stderr }, { code: 0, stderr: '' }, command);
    await once(localSocket(t, path), 'connect');
  }
});

test('an inherited descriptor that is not a listening socket ends the process with an error line', async (t) => {
  const folder = temporaryFolder(t);
  const fd = openSync('/dev/null', 'r');
  t.teardown(() => closeSync(fd));
  const args = ['-c', `unix-listen:${folder}/channel.sock`, '--control', join(folder, 'control.sock')];
  const vproxy = spawnVproxy(t, args, handing('control', [fd]));
  t.is((await vproxy.exited).code, 69);
  t.regex(vproxy.lines.at(-1) ?? '', /error: cannot listen on the inherited descriptor 3: /);
});

test('in the journal each line has its priority, and elsewhere its time, as text and as JSON', async (t) => {
  const folder = temporaryFolder(t);
  const logFile = join(folder, 'log');
  writeFileSync(logFile, '');
  const { dev, ino } = statSync(logFile);
  for (const [format, last, elsewhere] of [
    ['text', /^<3>vproxy: error: cannot listen/, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} vproxy: /],
    ['json', /^<3>\{.*"level":"error"/, /^\{"time":"[^"]+Z",/],
  ] as const) {
    const args = ['-c', `unix-listen:${folder}/channel.sock`, '-o', `ssh:${folder}`, '-v', '--log-format', format];
    const start = async (stream: string) => {
      writeFileSync(logFile, '');
      await spawnVproxy(t, args, { env: { ...SYSTEM, JOURNAL_STREAM: stream }, logFile }).exited;
      return readFileSync(logFile, 'utf8').trimEnd().split('\n');
    };
    const lines = await start(`${dev}:${ino}`);
    t.regex(lines.at(-1) ?? '', last);
    for (const line of lines) t.regex(line, /^<[3467]>[v{]/);
    for (const line of await start(`${dev}:${ino + 1}`)) t.regex(line, elsewhere);
  }
});

/** A service, and a manager that keeps its listening sockets. */
async function makeService(t: ExecutionContext) {
  const folder = temporaryFolder(t);
  // The status texts do not matter here.
  const notify = join(folder, 'systemd-notify');
  writeFileSync(notify, '#!/bin/sh\n');
  chmodSync(notify, 0o755);
  const manager = await openDatagramManager(t);
  const kept = new Map<string, number>();
  const removed: string[] = [];
  /** The stored sockets, ordered by name. */
  const names = (): string[] => {
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
    return [...kept.keys()].sort();
  };
  const env = { ...SYSTEM, PATH: folder, NOTIFY_SOCKET: manager.address, FDSTORE: '16' };
  const start = (...args: string[]): VproxyProcess =>
    spawnVproxy(t, args, handing([...kept.keys()].join(':'), [...kept.values()], env));
  return { folder, start, names, removed };
}

test('while the process is down connections wait; the next one gets them, and the same sockets', async (t) => {
  t.timeout(120_000);
  const { folder, start, names, removed } = await makeService(t);
  const [channel, socket, control] = [`${folder}/channel.sock`, `${folder}/echo.sock`, `${folder}/control.sock`];
  const port = await freePort();
  const target = await localServer(t, echo);
  const incoming = ['-i', `echo:${target.port}`, '-i', `other:${target.port}`];
  spawnVproxy(t, ['-c', `unix-connect:${channel}`, ...incoming], { env: SYSTEM });
  const outgoing = ['-o', `echo:${port}`, '-o', `other:${socket}`, '--control', control];
  const args = ['-c', `unix-listen:${channel}`, ...outgoing];
  const run = async (...words: string[]): Promise<void> => {
    t.is((await runVproxy([...words, '--socket', control])).code, 0);
  };
  let process = start(...args);
  const ends: readonly (() => unknown)[] = [
    () => process.kill('SIGTERM'),
    () => run('drain'),
    () => process.kill('SIGKILL'),
  ];
  await eventually(() => names().length === 4, { what: 'four sockets' });
  const before = names();
  t.true(before.includes(storedName(`tcp 127.0.0.1:${port}`)));
  const files = readdirSync(folder);
  for (const end of ends) {
    await end();
    await process.exited;
    t.deepEqual(names(), before);
    t.deepEqual(readdirSync(folder), files);
    const waiting = [localSocket(t, port), localSocket(t, socket)];
    await Promise.all(waiting.map((connection) => once(connection, 'connect')));
    process = start(...args);
    for (const connection of waiting) t.is(await answerTo(connection, 'hello'), 'hello');
    for (const connection of waiting) connection.destroy();
    await run('status');
  }
  t.deepEqual([names(), removed], [before, []]);
  await run('forward', 'remove', 'other');
  t.is(names().length, 3);
  t.false(existsSync(socket), 'a forward that goes for good takes its file with it');
});

test('sockets that the next process does not need are closed, and not in its way', async (t) => {
  t.timeout(120_000);
  const { folder, start, names, removed } = await makeService(t);
  const channel = ['-c', `unix-connect:${folder}/channel.sock`];
  const path = join(folder, 'echo.sock');
  const [port, other] = [await freePort(), await freePort()];
  const first = start(...channel, '-o', `one:${port}`, '-o', `two:${other}`, '-o', `three:${path}`);
  await eventually(() => names().length === 3, { what: 'three sockets' });
  await first.stop();
  // Other addresses, which overlap with the stored ones, and other permissions.
  const next = start(...channel, '-o', `one:0.0.0.0:${port}`, '-o', `three:${path},mode=0660`);
  await eventually(() => names().length === 2 && removed.length === 3, { what: 'two sockets' });
  t.true(names().includes(storedName(`tcp 0.0.0.0:${port}`)));
  await once(localSocket(t, path), 'connect');
  t.is(await refusal(t, other), 'ECONNREFUSED');
  await next.stop();
  // Nothing is in the way of this process.
  start(...channel, '-o', `one:0.0.0.0:${port}`);
  await eventually(() => names().length === 1 && removed.length === 4, { what: 'one socket' });
});
