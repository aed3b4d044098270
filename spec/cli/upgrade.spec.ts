/** `vproxy upgrade`: successors of the real command line go on with all that their predecessors had. */
import { once } from 'node:events';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type ControlClient, connectControl } from '../../lib/control/client/client.js';
import { Exchanges } from '../helpers/exchanges.js';
import { temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { processPair } from '../helpers/process-pair.js';
import { echo, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { eventually, within } from '../helpers/time.js';
import { runUpgrade, upgrade } from '../helpers/upgrades.js';
import {
  ENDED,
  isRunning,
  type SpawnOptions,
  spawnVproxy,
  TAKING_CONTROL,
  type VproxyProcess,
} from '../helpers/vproxy-process.js';

interface Sides {
  readonly host: VproxyProcess;
  readonly guest: VproxyProcess;
  /** Of the host, then of the guest. */
  readonly sockets: readonly [string, string];
  readonly clients: readonly [ControlClient, ControlClient];
}

interface Setup {
  readonly host?: readonly string[];
  readonly guest?: readonly string[];
  readonly guestOptions?: SpawnOptions;
}

/** Two processes with a session over a unix socket, each with a control socket. */
async function sidesOf(t: ExecutionContext, { host = [], guest = [], guestOptions = {} }: Setup): Promise<Sides> {
  const folder = temporaryFolder(t);
  const sockets = [join(folder, 'host.sock'), join(folder, 'guest.sock')] as const;
  const pair = await processPair(t, {
    host: ['--control', sockets[0], ...host],
    guest: ['--control', sockets[1], ...guest],
    guestOptions,
  });
  await Promise.all([pair.host, pair.guest].map((side) => side.waitForLine(TAKING_CONTROL)));
  return {
    host: pair.host,
    guest: pair.guest,
    sockets,
    clients: [connectControl(sockets[0]), connectControl(sockets[1])],
  };
}

const hasEnded = ({ lines }: VproxyProcess): boolean => lines.some((line) => ENDED.test(line));

test.serial('streams both ways go on while both sides are upgraded again and again', async (t) => {
  const exchanges = await Exchanges.start(t);
  const { host, guest, sockets, clients } = await sidesOf(t, {
    host: ['-o', `x:${exchanges.localPath}`],
    guest: ['-i', `x:${exchanges.targetPath}`],
  });
  await exchanges.open(40);
  const pids = new Set([host.pid, guest.pid]);
  for (let round = 0; round < 6; round += 1) {
    const socket = sockets[round % 2] ?? '';
    const answer = await upgrade(t, socket);
    t.deepEqual([answer.sessions, answer.streams, answer.listeners], [1, 40, round % 2 === 0 ? 3 : 1]);
    t.false(pids.has(answer.pid));
    pids.add(answer.pid);
    await exchanges.received(4_000_000);
  }
  t.deepEqual(await exchanges.finish(), []);
  t.false(hasEnded(host) || hasEnded(guest));
  for (const client of clients) t.is((await client.channel('default')).history.sessions, 1);
});

test.serial('a connection is never refused while its listener is handed over, and none is lost', async (t) => {
  const target = await localServer(t, echo);
  const { host, sockets } = await sidesOf(t, {
    host: ['-o', 'x:127.0.0.1:0'],
    guest: ['-i', `x:127.0.0.1:${target.port}`],
  });
  const port = await host.listeningPort('x');
  let isOver = false;
  const callers = Array.from({ length: 4 }, async (_, index) => {
    let count = 0;
    for (; !isOver; count += 1) {
      const socket = localSocket(t, { port });
      const text = `${index} ${count}`;
      socket.end(text);
      t.is(String(await within(10_000, 'an echo', readToEnd(socket))), text);
    }
    return count;
  });
  for (let round = 0; round < 3; round += 1) await upgrade(t, sockets[0]);
  isOver = true;
  const counts = await Promise.all(callers);
  t.true(
    counts.every((count) => count > 0),
    String(counts),
  );
});

test.serial('what a local program has not read is handed over, and half-closed streams are', async (t) => {
  const held: net.Socket[] = [];
  const target = await localServer(t, (socket) => void held.push(socket.pause()));
  const { host, sockets } = await sidesOf(t, {
    host: ['-o', 'x:127.0.0.1:0'],
    guest: ['-i', `x:127.0.0.1:${target.port}`],
  });
  const port = await host.listeningPort('x');
  const bytes = Buffer.alloc(20_000_000, 'some bytes of it');
  const near = localSocket(t, { port });
  near.end(bytes);
  const status = async () => (await connectControl(sockets[1]).streams())[0];
  // The windows are full, and so is the socket.
  let before = -1;
  await eventually(async () => {
    const receivedBytes = (await status())?.receivedBytes ?? 0;
    const isStill = receivedBytes > 0 && receivedBytes === before;
    before = receivedBytes;
    return isStill;
  });
  await upgrade(t, sockets[1]);
  await upgrade(t, sockets[0]);
  await upgrade(t, sockets[1]);
  const [far] = held;
  if (far === undefined) throw new Error('nobody has connected');
  const received = readToEnd(far);
  far.resume();
  t.true(bytes.equals(await received));
  await upgrade(t, sockets[0]);
  far.end('the answer');
  t.is(String(await readToEnd(near)), 'the answer');
});

test.serial('what was changed while the process ran is in force in its successor', async (t) => {
  const target = await localServer(t, echo);
  const folder = temporaryFolder(t);
  const { sockets, clients, guest } = await sidesOf(t, { guest: ['-i', `x:127.0.0.1:${target.port}`] });
  const [host] = clients;
  const path = join(folder, 'x.sock');
  const added = await host.addForward({ direction: 'outgoing', spec: `x:${path}` });
  await host.addChannel({ label: 'late', address: `unix-listen:${join(folder, 'late.sock')}` });
  await host.logLevel('debug');
  const before = await host.status();
  await upgrade(t, sockets[0]);
  const after = await host.status();
  t.not(after.process.pid, before.process.pid);
  t.is(after.process.logLevel, 'debug');
  t.deepEqual(
    after.channels.map(({ label, state }) => [label, state]),
    before.channels.map(({ label, state }) => [label, state]),
  );
  t.deepEqual(
    (await host.forwards()).map(({ id, spec }) => [id, spec]),
    [[added.id, added.spec]],
  );
  const socket = localSocket(t, { path });
  socket.end('still there');
  t.is(String(await readToEnd(socket)), 'still there');
  t.deepEqual(
    (await host.forwards()).map(({ opened }) => opened),
    [1],
  );
  const next = await host.addForward({ direction: 'outgoing', spec: `y:${join(folder, 'y.sock')}`, channel: 'late' });
  t.not(next.id, added.id);
  t.false(hasEnded(guest));
});

test.serial('a session with TLS loses its link, and goes on', async (t) => {
  const exchanges = await Exchanges.start(t);
  const folder = temporaryFolder(t);
  const key = ['--key', writeKeyFile(folder, 'key', '5a')];
  const sockets = [join(folder, 'host.sock'), join(folder, 'guest.sock')] as const;
  const host = spawnVproxy(t, [
    ...['-c', 'tcp-listen:127.0.0.1:0,tls=psk', ...key, '-o', `x:${exchanges.localPath}`, '--control', sockets[0]],
  ]);
  const [, port] = await host.waitForLine(/waiting for the peer on tcp-listen:127\.0\.0\.1:(\d+)/);
  const guest = spawnVproxy(t, [
    ...[
      '-c',
      `tcp-connect:127.0.0.1:${port},tls=psk`,
      ...key,
      '-i',
      `x:${exchanges.targetPath}`,
      '--control',
      sockets[1],
    ],
  ]);
  await Promise.all([host, guest].map((side) => side.waitForLine(TAKING_CONTROL)));
  await exchanges.open(10);
  for (const socket of sockets) {
    await upgrade(t, socket);
    await exchanges.received(2_000_000);
  }
  t.deepEqual(await exchanges.finish(), []);
  t.false(hasEnded(host) || hasEnded(guest));
});

test.serial('an upgrade that cannot be is refused with the reason, and the process goes on as it was', async (t) => {
  const exchanges = await Exchanges.start(t);
  const folder = temporaryFolder(t);
  const { host, guest, sockets, clients } = await sidesOf(t, {
    host: ['-o', `x:${exchanges.localPath}`],
    guest: ['-i', `x:${exchanges.targetPath}`, '--allow-exec'],
  });
  await exchanges.open(10);
  const program = (text: string): string => {
    const path = join(folder, `program-${text.length}`);
    writeFileSync(path, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    return path;
  };
  const refused = async (socket: string, words: readonly string[], reason: RegExp): Promise<void> => {
    const { code, stdout, stderr } = await runUpgrade(socket, words);
    t.deepEqual([code, stdout], [1, '']);
    t.regex(stderr, reason);
    await exchanges.received(500_000);
  };
  await refused(sockets[0], ['--program', program('exit 3')], /the successor, \S+, ended with status 3/);
  await refused(sockets[0], ['--program', program('kill -9 $$')], /was ended by SIGKILL/);
  await refused(sockets[0], ['--program', program('echo this is no parcel >&3; cat >/dev/null')], /upgrade|hand over/);
  await refused(sockets[0], ['--program', join(folder, 'missing')], /missing/);
  await refused(sockets[0], ['--program', '/dev/null'], /\/dev\/null is not run as the successor/);
  const open = program('exit 0 # open to all');
  chmodSync(open, 0o777);
  await refused(sockets[0], ['--program', open], /can be written by other users/);

  const running = await clients[0].exec(['sh', '-c', 'read line; echo "$line"']);
  await refused(sockets[1], ['--wait', '0'], /default: stream \d+ to exec/);
  await refused(sockets[0], ['--wait', '0'], /default: stream \d+ to exec/);
  running.stdin.end('done\n');
  t.is((await running.result).status, 0);
  await upgrade(t, sockets[1]);
  await upgrade(t, sockets[0]);
  t.deepEqual(await exchanges.finish(), []);
  t.false(hasEnded(host) || hasEnded(guest));
});

test.serial('with --force what only a guest can end is reset, and told; all else goes on', async (t) => {
  const exchanges = await Exchanges.start(t);
  const { host, guest, sockets, clients } = await sidesOf(t, {
    host: ['-o', `x:${exchanges.localPath}`, '-i', 'cat:exec:cat', '--allow-exec'],
    guest: ['-i', `x:${exchanges.targetPath}`, '-o', 'cat:0'],
  });
  await exchanges.open(10);
  const local = localSocket(t, { host: '127.0.0.1', port: await guest.listeningPort('cat') });
  const closed = new Promise((resolve) => local.on('error', () => undefined).once('close', resolve));
  local.write('held');
  await once(local, 'data');
  const running = await clients[1].exec(['cat']);
  const failed = t.throwsAsync(running.result, { message: /cannot be handed over \(shutdown\)/ });
  const { cut } = await upgrade(t, sockets[0], ['--wait', '0', '--force']);
  t.deepEqual(cut.map((line) => line.replace(/\d+/, 'N')).sort(), [
    'default: stream N to cat',
    'default: stream N to exec',
  ]);
  await Promise.all([closed, failed]);
  await exchanges.received(500_000);
  t.deepEqual(await exchanges.finish(), []);
  t.false(hasEnded(host) || hasEnded(guest));
});

test.serial('commands of a forward have pipes in a successor, too', async (t) => {
  const { guest, sockets } = await sidesOf(t, {
    host: ['-i', 'cat:exec:test -p /dev/stdin && cat'],
    guest: ['-o', 'cat:0'],
  });
  await upgrade(t, sockets[0]);
  const local = localSocket(t, { host: '127.0.0.1', port: await guest.listeningPort('cat') });
  local.write('again');
  await once(local, 'data');
  t.pass();
});

test.serial('a successor that does not answer is ended after 30 s', async (t) => {
  const folder = temporaryFolder(t);
  const { sockets, clients } = await sidesOf(t, {});
  const path = join(folder, 'silent');
  writeFileSync(path, `#!/bin/sh\necho $$ > ${folder}/pid; exec sleep 1000\n`, { mode: 0o755 });
  const { code, stderr } = await runUpgrade(sockets[0], ['--program', path]);
  t.is(code, 1);
  t.regex(stderr, /the successor, \S+, did not answer within 30 s/);
  const pid = Number(readFileSync(join(folder, 'pid'), 'utf8'));
  await eventually(() => !isRunning(pid), { what: 'the end of the program' });
  t.true((await clients[0].ping()).roundTripMs >= 0);
});
