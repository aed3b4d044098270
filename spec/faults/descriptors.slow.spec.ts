/** A process out of file descriptors logs it, refuses new connections, keeps open ones, answers its operator, and recovers. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import type net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { openDatagramManager } from '../helpers/datagram-manager.js';
import { temporaryFolder } from '../helpers/files.js';
import { openDescriptors } from '../helpers/measures.js';
import { hangingPort } from '../helpers/ports.js';
import { processPair } from '../helpers/process-pair.js';
import { answerTo, ask, echo, failureOf, localServer, localSocket } from '../helpers/proxies.js';
import { eventually, untilStill } from '../helpers/time.js';
import { runUpgrade, upgrade } from '../helpers/upgrades.js';
import { CHANNEL_LISTENING, ESTABLISHED, spawnVproxy, type VproxyProcess } from '../helpers/vproxy-process.js';

const LIMIT = 64;
const TOO_MANY = 80;

/** The log line for each connection that cannot be accepted. */
const REFUSED = /a connection to .* was reset: .*EMFILE.*\((?:local-error|connect-failed)\)/;

const refusedCount = ({ lines }: VproxyProcess): number => lines.filter((line) => REFUSED.test(line)).length;

/** Opens more connections than there are descriptors; refused ones leave the set by themselves. */
function openTooMany(t: ExecutionContext, place: number | string, text = 'x') {
  const all = { open: new Set<net.Socket>(), answered: 0 };
  for (let count = 0; count < TOO_MANY; count += 1) {
    const socket = localSocket(t, place);
    all.open.add(socket);
    socket.on('error', () => undefined);
    socket.once('data', () => (all.answered += 1));
    socket.once('end', () => socket.destroy());
    socket.once('close', () => all.open.delete(socket));
    socket.write(text);
  }
  return all;
}

for (const side of ['host', 'guest'] as const) {
  test(`a ${side} without descriptors logs refusals, keeps open connections, and recovers`, async (t) => {
    const target = await localServer(t, echo);
    const pair = await processPair(t, {
      host: ['-o', 'echo:0'],
      guest: ['-i', `echo:${target.port}`, '-o', 'back:0'],
      [`${side}Options`]: { descriptorLimit: LIMIT },
    });
    const port = await pair.host.listeningPort('echo');
    const all = openTooMany(t, port);
    await eventually(() => all.answered === all.open.size && all.answered + refusedCount(pair.host) === TOO_MANY, {
      what: 'an answer, or a line in the log, for each connection',
    });
    t.true(all.answered > 10 && all.answered < LIMIT, `${all.answered}`);
    if (side === 'guest') {
      await pair.guest.waitForLine(/EMFILE.*\(connect-failed\)/);
      // Its local programs are refused, too, although targets use the descriptors.
      await failureOf(localSocket(t, await pair.guest.listeningPort('back')));
      await pair.guest.waitForLine(/a connection to .* \(back\) was reset: EMFILE.*\(local-error\)/);
    }
    for (const socket of all.open) t.is(await answerTo(socket, 'still there'), 'still there');
    for (const socket of all.open) socket.destroy();
    await eventually(async () => (await ask(t, port, 'again')) === 'again');
    for (const { lines } of [pair.host, pair.guest]) t.false(lines.some((line) => /session .* ended/.test(line)));
  });
}

for (const kind of ['unix', 'tcp'] as const) {
  test(`a ${kind}-listen channel lets the peer in although local connections have used up the descriptors`, async (t) => {
    const path = join(temporaryFolder(t), 'channel.sock');
    const target = await localServer(t, echo);
    const address = kind === 'unix' ? path : '127.0.0.1:0';
    const args = ['-c', `${kind}-listen:${address}`, '-o', 'echo:0', '--wait', '60'];
    const host = spawnVproxy(t, args, { descriptorLimit: LIMIT });
    await host.waitForLine(/waiting for the peer/);
    const all = openTooMany(t, await host.listeningPort('echo'));
    await eventually(() => all.open.size + refusedCount(host) === TOO_MANY && refusedCount(host) > 0);
    const peerAddress =
      kind === 'unix' ? path : `127.0.0.1:${(await host.waitForLine(CHANNEL_LISTENING))[1] ?? 'no port'}`;
    spawnVproxy(t, ['-c', `${kind}-connect:${peerAddress}`, '-i', `echo:${target.port}`]);
    await host.waitForLine(ESTABLISHED);
    await eventually(() => all.answered === all.open.size && all.answered > 10, { what: 'all that waited served' });
    t.is(all.answered + refusedCount(host), TOO_MANY);
  });
}

test('an exec channel starts again although local connections have used up the descriptors', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const target = await localServer(t, echo);
  const args = ['-c', `exec:exec socat - UNIX-CONNECT:${path}`, '-o', 'echo:0', '--wait', '60'];
  const host = spawnVproxy(t, args, { descriptorLimit: LIMIT });
  const all = openTooMany(t, await host.listeningPort('echo'));
  await eventually(() => all.open.size + refusedCount(host) === TOO_MANY && refusedCount(host) > 0);
  spawnVproxy(t, ['-c', `unix-listen:${path}`, '-i', `echo:${target.port}`]);
  await host.waitForLine(ESTABLISHED);
  await eventually(() => all.answered === all.open.size && all.answered > 10, { what: 'all that waited served' });
  t.is(all.answered + refusedCount(host), TOO_MANY);
});

test('a side without descriptors logs the storage calls that it refuses, and accepts others once some are free', async (t) => {
  const path = join(temporaryFolder(t), 'storage.sock');
  const args = ['-c', `unix-listen:${join(temporaryFolder(t), 'channel.sock')}`, '--storage-socket', path];
  const guest = spawnVproxy(t, args, { descriptorLimit: LIMIT });
  await guest.waitForLine(/for storage calls/);
  const refused = () =>
    guest.lines.filter((line) => /storage call .*EMFILE.*\(storage-unavailable\)/.test(line)).length;
  const all = openTooMany(t, path, '{');
  await eventually(() => refused() > 0 && all.open.size + refused() === TOO_MANY);
  for (const socket of all.open) socket.destroy();
  await eventually(async () => (await ask(t, path, 'no call')).includes('storage-bad-request'));
  t.pass();
});

/** Leaves a process this many descriptors. */
function limitDescriptors(pid: number, { free }: { readonly free: number }): void {
  const open = new Set(readdirSync(`/proc/${pid}/fd`).map(Number));
  const others = Array.from({ length: open.size + free + 1 }, (_, fd) => fd).filter((fd) => !open.has(fd));
  execFileSync('prlimit', ['--pid', `${pid}`, `--nofile=${others[free]}:`]);
}

/** `isTold`: whether it has notified its service manager, which takes descriptors, too. */
async function upgradeWithout(
  t: ExecutionContext,
  most: number,
  env: Readonly<Record<string, string>> = {},
  isTold = () => true,
) {
  const target = await localServer(t, echo);
  const { host, sockets } = await processPair(t, {
    control: 'both',
    host: ['-o', 'echo:0'],
    hostOptions: { env },
    guest: ['-i', `echo:${target.port}`],
  });
  const socket = localSocket(t, await host.listeningPort('echo'));
  t.is(await answerTo(socket, 'before'), 'before');
  await eventually(isTold, { what: 'the message to the service manager' });
  await untilStill(() => openDescriptors(host.pid));
  const count = openDescriptors(host.pid);
  // The first is for the request, the second for the program.
  for (let free = 1; free <= most; free += 1) {
    limitDescriptors(host.pid, { free });
    const { code, stderr } = await runUpgrade(sockets[0]);
    t.is(code, 1, `${free} free`);
    t.regex(stderr, /a successor cannot be started: .*EMFILE/);
    limitDescriptors(host.pid, { free: 100 });
    await eventually(() => openDescriptors(host.pid) === count, { what: `the same descriptors after ${free} free` });
    t.is(await answerTo(socket, 'still there'), 'still there');
  }
  await upgrade(t, sockets[0]);
  t.is(await answerTo(socket, 'after'), 'after');
}

test('an upgrade without descriptors for a successor says so, and leaves none open', (t) => upgradeWithout(t, 5));

/** The environment of a service, and the messages to its manager. */
async function service(t: ExecutionContext) {
  const { address } = await openDatagramManager(t);
  const folder = temporaryFolder(t);
  const messages = join(folder, 'messages');
  writeFileSync(messages, '');
  writeFileSync(join(folder, 'systemd-notify'), `#!/bin/sh\necho "$*" >> ${messages}\n`, { mode: 0o755 });
  return { env: { NOTIFY_SOCKET: address, PATH: folder }, told: () => readFileSync(messages, 'utf8') };
}

test('the same in a service, whose successor a shell starts', async (t) => {
  const { env, told } = await service(t);
  await upgradeWithout(t, 9, env, () => told().includes('STATUS=session'));
});

test('a service without descriptors cannot notify its manager, and goes on', async (t) => {
  const { env, told } = await service(t);
  const channel = join(temporaryFolder(t), 'channel.sock');
  const host = spawnVproxy(t, ['-c', `unix-listen:${channel}`], { env: { ...env, WATCHDOG_USEC: '100000' } });
  await eventually(() => told().includes('WATCHDOG=1'), { what: 'the first message' });
  // Again and again: what a message that is being sent has open is free afterwards.
  await eventually(() => {
    limitDescriptors(host.pid, { free: 0 });
    return host.lines.some((line) => /cannot notify the service manager: .*EMFILE/.test(line));
  });
  limitDescriptors(host.pid, { free: 100 });
  await host.waitForLine(/notifying the service manager works again/);
  t.deepEqual(await host.stop(), { code: 0, signal: null });
});

/** Targets that need a descriptor for each stream; PORT does not answer. */
const TAKERS: Readonly<Record<string, readonly string[]>> = {
  'a unix socket': ['-i', 'taken:SOCKET'],
  'a port that does not answer': ['-i', 'taken:PORT'],
  'a named port that does not answer': ['-i', 'taken:localhost:PORT'],
  'an egress to a port that does not answer': ['-i', 'taken:egress:', '--egress', 'taken:allow=127.0.0.1:PORT'],
  commands: ['-i', 'taken:exec:cat'],
};

for (const [what, words] of Object.entries(TAKERS)) {
  test(`the operator gets an answer although a guest has taken all descriptors: ${what}`, async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, 'target.sock');
    await localServer(t, () => undefined, { path });
    const hanging = `${await hangingPort(t)}`;
    const host = words.map((word) => word.replace('PORT', hanging).replace('SOCKET', path));
    const pair = await processPair(t, {
      control: 'host',
      host,
      hostOptions: { descriptorLimit: LIMIT },
      guest: ['-o', 'taken:0'],
    });
    const port = await pair.guest.listeningPort('taken');
    const destination = `127.0.0.1:${hanging}`;
    openTooMany(t, port, `CONNECT ${destination} HTTP/1.1\r\nHost: ${destination}\r\n\r\n`);
    // A connecting stream has its descriptor at once, a refused one frees it. A command begins with both ends of three pipes.
    const least = LIMIT - (what === 'commands' ? 8 + 6 : 10);
    await eventually(() => openDescriptors(pair.host.pid) >= least, { what: 'a process without descriptors' });
    const [client] = pair.clients;
    await client.status();
    await client.streams();
    await client.removeChannel('default', { mode: 'now' });
    await client.stop();
    t.is((await pair.host.exited).code, 0);
  });
}
