/** `vproxy upgrade`: successors of the real command line take over everything from their predecessors. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { HANDOVER_FORM } from '../../cli/upgrade/form.js';
import { creditPayload } from '../../conformance/frame-maker.js';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { connectControl } from '../../lib/control/client/client.js';
import { callStorage } from '../../lib/storage/wrapper.js';
import { deferred } from '../../lib/util/concurrency.js';
import { ask as request } from '../helpers/control.js';
import { Exchanges } from '../helpers/exchanges.js';
import { PROJECT_ROOT, temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { peakBytes, residentBytes } from '../helpers/measures.js';
import { ONE_SESSION, processPair } from '../helpers/process-pair.js';
import { answerTo, ask, echo, failureOf, localServer, localSocket, openEcho, readToEnd } from '../helpers/proxies.js';
import { CuttingRelay } from '../helpers/relays.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { type Behaviour, FieldEmulator } from '../helpers/storage.js';
import { eventually, untilStill } from '../helpers/time.js';
import { runUpgrade, upgrade } from '../helpers/upgrades.js';
import { ESTABLISHED, isRunning, spawnControlled, spawnVproxy, type VproxyProcess } from '../helpers/vproxy-process.js';

const connect = async (t: ExecutionContext, side: VproxyProcess, service: string): Promise<net.Socket> =>
  localSocket(t, { port: await side.listeningPort(service) });

test.serial('nothing is lost or refused in upgrades of both sides: busy, new and unread streams', async (t) => {
  const exchanges = await Exchanges.start(t);
  const echoing = await localServer(t, echo);
  const arrived = deferred<net.Socket>();
  const silent = await localServer(t, (socket) => arrived.resolve(socket.pause()));
  // At full speed they would keep both processors of a small machine busy while a successor loads.
  const config = join(temporaryFolder(t), 'guest.toml');
  writeFileSync(config, '[services.x]\nbytes-per-second = 10000000\n');
  const targets = ['-i', `x:${exchanges.targetPath}`, '-i', `echo:${echoing.port}`, '-i', `silent:${silent.port}`];
  const { host, sockets, clients, sessions } = await processPair(t, {
    control: 'both',
    host: ['-o', `x:${exchanges.localPath}`, '-o', 'echo:0', '-o', 'silent:0'],
    guest: ['--config', config, ...targets],
  });
  const bytes = Buffer.alloc(20_000_000, 'some bytes of it');
  const near = (await connect(t, host, 'silent')).end(bytes);
  // The windows are full, and so is the socket.
  await untilStill(async () => (await clients[1].streams())[0]?.receivedBytes);
  await exchanges.open(20);
  let isOver = false;
  const port = await host.listeningPort('echo');
  const callers = ['one', 'other'].map(async (name) => {
    let count = 0;
    for (; !isOver; count += 1) t.is(await ask(t, port, `${name} ${count}`), `${name} ${count}`);
    return count;
  });
  for (const socket of [sockets[1], sockets[0], sockets[1], sockets[0]]) {
    await upgrade(t, socket);
    await exchanges.received(1_000_000);
  }
  isOver = true;
  for (const count of await Promise.all(callers)) t.true(count > 0);
  t.deepEqual(await exchanges.finish(), []);
  const far = await arrived.promise;
  const received = readToEnd(far);
  far.resume();
  t.true(bytes.equals(await received));
  await upgrade(t, sockets[0]);
  far.end('the answer');
  t.is(String(await readToEnd(near)), 'the answer');
  t.deepEqual(sessions(), ONE_SESSION);
});

test.serial('the successor has the group with its folders, manual changes, and what a reload may remove', async (t) => {
  const folder = temporaryFolder(t);
  const at = (name: string) => join(folder, name);
  const config = at('vproxy.toml');
  mkdirSync(at('vms'));
  const declare = (service: string) =>
    writeFileSync(
      config,
      `[channels.vms]\naddress = "unix://${at('vms')}/*.sock"\noutgoing = ["echo:${at('own')}/{channel}.sock"]\n` +
        `[channels.vm1]\naddress = "unix-listen:${at('vm1.sock')}"\noutgoing = ["${service}:127.0.0.1:0"]\n`,
    );
  declare('a');
  const { vproxy: host, socket } = await spawnControlled(t, [], { env: { VPROXY_CONFIG: config } });
  const target = await localServer(t, echo);
  const startGuest = async (vm: string) => {
    const guest = spawnVproxy(t, ['-c', `unix-listen:${at('vms')}/${vm}.sock`, '-i', `echo:${target.port}`]);
    await host.waitForLine(new RegExp(`${vm}: ${ESTABLISHED.source}`));
    return guest;
  };
  await Promise.all([startGuest('vm7'), startGuest('vm8')]);
  const client = connectControl(socket);
  const stream = localSocket(t, { path: at('own/vm7.sock') });
  stream.write('before, ');
  await client.removeChannel('vm8');
  await client.addChannel({ label: 'late', address: `unix-listen:${at('late.sock')}` });
  const added = await client.addForward({ direction: 'outgoing', spec: `echo:${at('b')}`, channel: 'vm7' });
  await client.logLevel('debug');
  t.is(await ask(t, at('b'), 'one'), 'one');

  await upgrade(t, socket);
  t.is((await client.status()).process.logLevel, 'debug');
  const known = (await client.forwards()).find(({ id }) => id === added.id);
  t.like(known, { spec: added.spec, opened: 1 });
  declare('c');
  await client.reload();
  const services = (await client.forwards()).map(({ channel, service }) => `${channel}/${service}`);
  t.deepEqual(services.sort(), ['vm1/c', 'vm7/echo', 'vm7/echo']);
  const next = await client.addForward({ direction: 'outgoing', spec: `y:${at('y')}`, channel: 'late' });
  t.not(next.id, added.id);
  const channels = async () =>
    (await client.status()).channels.map(({ label, group }) => `${group ?? ''}/${label}`).sort();
  const vm9 = await startGuest('vm9');
  t.deepEqual(await channels(), ['/late', '/vm1', 'vms/vm7', 'vms/vm9']);
  await vm9.stop();
  await eventually(async () => !(await channels()).includes('vms/vm9'), { what: 'the end of vm9' });
  stream.end('and behind it');
  t.is(String(await readToEnd(stream)), 'before, and behind it');
  t.is((await client.channel('vm7')).history.sessions, 1);

  const { pid } = (await client.status()).process;
  process.kill(pid, 'SIGTERM');
  await eventually(() => !isRunning(pid), { what: 'the end of the successor' });
  t.false(existsSync(at('own')), 'a folder that the predecessor made');
});

/** A host with these channels, some with TLS, whose guests offer an echo and are in one further process. */
async function fleetOf(t: ExecutionContext, labels: readonly string[]) {
  const [folder, target] = [temporaryFolder(t), await localServer(t, echo)];
  const key = writeKeyFile(folder, 'key', '5a');
  const at = (label: string, name: string) => join(folder, `${label}.${name}`);
  const configure = (name: string, kind: string, more: (label: string) => object): string[] => {
    const channel = (label: string) => {
      const address = `${kind}:${at(label, 'channel')}`;
      return label.endsWith('0') ? { address: `${address},tls=psk,resume=60s`, keys: [key] } : { address };
    };
    const channels = Object.fromEntries(labels.map((label) => [label, { ...channel(label), ...more(label) }]));
    writeFileSync(join(folder, name), JSON.stringify({ channels }));
    return ['--config', join(folder, name)];
  };
  const host = configure('host.json', 'unix-listen', (label) => ({ outgoing: [`echo:${at(label, 'echo')}`] }));
  const { vproxy, socket } = await spawnControlled(t, host);
  const incoming = [`echo:${target.port}`];
  const guests = spawnVproxy(
    t,
    configure('guests.json', 'unix-connect', () => ({ incoming })),
  );
  const client = connectControl(socket);
  const isReady = async () => (await client.status()).channels.every(({ session }) => session !== null);
  await eventually(isReady, { what: 'the sessions', timeoutMs: 60_000 });
  return { vproxy, guests, client, at };
}

test.serial(
  'idle channels follow the busy ones: none is missed by a reload, a request, a client or the end',
  async (t) => {
    const labels = Array.from({ length: 100 }, (_, index) => `vm${(index * 37) % 100}`);
    const { vproxy, guests, client, at } = await fleetOf(t, labels);
    const busy = await openEcho(t, at('vm50', 'echo'));
    for (let round = 0; round < 2; round += 1) {
      const { pid, sessions } = await client.upgrade();
      t.teardown(() => isRunning(pid) && process.kill(pid, 'SIGKILL'));
      t.is(sessions, 100);
      const reloaded = vproxy.waitForLine(/reloaded: .*/, { from: vproxy.lines.length });
      process.kill(pid, 'SIGHUP');
      const calls = labels.map((label) => ask(t, at(label, 'echo'), label));
      const { channels } = await client.status();
      t.deepEqual(
        channels.map(({ label, history }) => `${label} ${history.sessions}`),
        labels.map((label) => `${label} 1`),
      );
      t.deepEqual(await Promise.all(calls), labels);
      t.regex((await reloaded)[0], /reloaded: no changes/);
      t.is(await answerTo(busy, 'still'), 'still');
    }
    const { pid } = await client.upgrade();
    process.kill(pid, 'SIGTERM');
    await eventually(() => !isRunning(pid), { what: 'the end of the successor' });
    // Those with TLS have no link yet.
    const isTold = (label: string) => guests.lines.some((line) => line.includes(` ${label}: `) && /stopped/.test(line));
    const untold = () => labels.filter((label) => !label.endsWith('0') && !isTold(label));
    await eventually(() => untold().length === 0, { what: 'the end in the log of each guest' });
    t.deepEqual(
      labels.filter((label) => existsSync(at(label, 'channel')) || existsSync(at(label, 'echo'))),
      [],
    );
  },
);

test.serial(
  'an upgrade is refused while a key file of a channel is invalid, and the process keeps its keys',
  async (t) => {
    const key = writeKeyFile(temporaryFolder(t), 'key', '5a');
    const { host, sockets, clients, sessions } = await processPair(t, {
      control: 'both',
      host: ['--key', key],
      guest: ['--key', key],
    });
    const text = readFileSync(key);
    writeFileSync(key, 'no key');
    const { code, stderr } = await runUpgrade(sockets[0]);
    t.is(code, 1);
    t.regex(stderr, /cannot take over: .*key/);
    t.is((await clients[0].status()).process.pid, host.pid);
    writeFileSync(key, text);
    await upgrade(t, sockets[0]);
    t.deepEqual(sessions(), ONE_SESSION);
  },
);

test.serial('storage calls and metrics are answered at the same address; upgrades wait for a call', async (t) => {
  const storage = join(temporaryFolder(t), 'storage.sock');
  const { host, guest, sockets } = await processPair(t, {
    control: 'both',
    host: ['-o', 'storage:127.0.0.1:0'],
    guest: ['--storage-socket', storage, '--metrics', '127.0.0.1:0'],
  });
  const [, port] = await guest.waitForLine(/serving metrics at http:\/\/127\.0\.0\.1:(\d+)\/metrics/);
  const [asked, answer] = [deferred(), deferred<Behaviour>()];
  FieldEmulator.dialing(t, await host.listeningPort('storage'), ([, word]) => {
    if (word !== 'slow') return { stdout: `${word}\n`, stderr: '', status: 3 };
    asked.resolve();
    return answer.promise;
  });
  const call = async (word: string) => {
    const reply = await callStorage({ argv: ['storcli64', word], socketPaths: [storage], timeoutMs: 20_000 });
    return [String(reply.stdout), reply.status];
  };
  t.deepEqual(await call('one'), ['one\n', 3]);
  const slow = call('slow');
  await asked.promise;
  const { code, stderr } = await runUpgrade(sockets[1], ['--wait', '0']);
  t.is(code, 1);
  t.regex(stderr, /default: storage calls in progress \(1\)/);
  answer.resolve({ stdout: 'slowly\n', stderr: '', status: 0 });
  t.deepEqual(await slow, ['slowly\n', 0]);
  await upgrade(t, sockets[1]);
  t.deepEqual(await call('two'), ['two\n', 3]);
  const { status, text } = await request({ host: '127.0.0.1', port: Number(port) }, 'GET', '/metrics');
  t.is(status, 200);
  t.regex(text, /^vproxy_channel_sessions_total\{channel="default"\} 1$/m);
});

test.serial('a session with TLS loses its link at an upgrade; one without a link resumes on the next', async (t) => {
  const { relay, near, far } = await CuttingRelay.between(t);
  const exchanges = await Exchanges.start(t);
  const key = ['--key', writeKeyFile(temporaryFolder(t), 'key', '5a')];
  const { host, guest, sockets, clients, sessions } = await processPair(t, {
    control: 'both',
    ...{ hostPath: `${far},tls=psk,resume=60s`, guestPath: `${near},tls=psk,resume=60s` },
    ...{ host: [...key, '-o', `x:${exchanges.localPath}`], guest: [...key, '-i', `x:${exchanges.targetPath}`] },
  });
  await exchanges.open(10);
  for (const side of [0, 1] as const) {
    const { skippedBytes } = (await clients[side].channel('default')).totals;
    t.true(skippedBytes > 0);
    await upgrade(t, sockets[side]);
    await exchanges.received(2_000_000);
    t.true((await clients[side].channel('default')).totals.skippedBytes >= skippedBytes);
  }
  const losses = [host, guest].map((side) =>
    side.waitForLine(/lost; waiting to resume \(10 streams\)/, { from: side.lines.length }),
  );
  relay.leftBytes = 0;
  relay.cut();
  await Promise.all(losses);
  for (const socket of [...sockets, ...sockets]) t.is((await upgrade(t, socket)).streams, 10);
  relay.leftBytes = Number.POSITIVE_INFINITY;
  process.kill((await clients[1].status()).process.pid, 'SIGHUP');
  await exchanges.received(2_000_000);
  t.deepEqual(await exchanges.finish(), []);
  t.deepEqual(sessions(), ONE_SESSION);
});

test.serial('the rule of a service counts earlier streams, and ends one that has been idle since', async (t) => {
  const config = join(temporaryFolder(t), 'guest.toml');
  writeFileSync(config, '[services.counted]\nstreams = 1\n[services.idle]\nidle-timeout = 2\n');
  const target = await localServer(t, echo);
  const { host, sockets, clients } = await processPair(t, {
    control: 'both',
    host: ['-o', 'counted:0', '-o', 'idle:0'],
    guest: ['--config', config, '-i', `counted:${target.port}`, '-i', `idle:${target.port}`],
  });
  const [counted, idle] = [await connect(t, host, 'counted'), await connect(t, host, 'idle')];
  await eventually(async () => (await clients[1].streams()).length === 2, { what: 'the streams' });
  const working = setInterval(() => idle.write('.'), 100);
  t.teardown(() => clearInterval(working));
  const failure = failureOf(idle);
  t.is((await upgrade(t, sockets[1])).streams, 2);
  clearInterval(working);
  t.is((await failureOf(await connect(t, host, 'counted'))).code, 'ECONNRESET');
  counted.end('to the end');
  t.is(String(await readToEnd(counted)), 'to the end');
  t.is((await failure).code, 'ECONNRESET');
});

test.serial('draining forwards, on either side, drain in the successor', async (t) => {
  const target = await localServer(t, echo);
  const { host, sockets, clients } = await processPair(t, {
    control: 'both',
    host: ['-o', 'x:0', '-o', 'y:0'],
    guest: ['-i', `x:${target.port}`, '-i', `y:${target.port}`],
  });
  for (const [side, service, code] of [
    [0, 'x', 'ECONNREFUSED'],
    [1, 'y', 'ECONNRESET'],
  ] as const) {
    const client = clients[side];
    const open = await connect(t, host, service);
    await eventually(async () => (await client.streams()).length === 1, { what: 'the stream' });
    const find = async () => (await client.forwards()).find((forward) => forward.service === service);
    const unanswered = t.throwsAsync(client.removeForward((await find())?.id ?? ''), {
      message: /closed the connection without an answer/,
    });
    await eventually(async () => (await find())?.state === 'draining', { what: 'the removal' });
    t.is((await upgrade(t, sockets[side])).streams, 1);
    await unanswered;
    t.is((await find())?.state, 'draining');
    t.is((await failureOf(await connect(t, host, service))).code, code);
    open.end('to the end');
    t.is(String(await readToEnd(open)), 'to the end');
    await eventually(async () => (await find()) === undefined, { what: 'the end of the forward' });
    await eventually(async () => (await client.streams()).length === 0, { what: 'the end of the stream' });
  }
});

test.serial('with --force streams that only a guest can end are reset and reported; others continue', async (t) => {
  const exchanges = await Exchanges.start(t);
  const { guest, sockets, clients, sessions } = await processPair(t, {
    control: 'both',
    host: ['-o', `x:${exchanges.localPath}`, '-i', 'cat:exec:test -p /dev/stdin && cat', '--allow-exec'],
    guest: ['-i', `x:${exchanges.targetPath}`, '-o', 'cat:0'],
  });
  await exchanges.open(10);
  const port = await guest.listeningPort('cat');
  const closed = failureOf(await openEcho(t, port));
  const running = await clients[1].exec(['cat']);
  const failed = t.throwsAsync(running.result, { message: /cannot hand over the stream \(shutdown\)/ });
  const { cut } = await upgrade(t, sockets[0], ['--wait', '0', '--force']);
  const told = cut.map((line) => line.replace(/\d+/, 'N')).sort();
  // It may take the command a moment to end, once its stream has.
  const streams = told.filter((line) => line !== 'default: command N, which is to end');
  t.deepEqual(streams, ['default: stream N to cat', 'default: stream N to exec']);
  await Promise.all([closed, failed]);
  await exchanges.received(500_000);
  t.deepEqual(await exchanges.finish(), []);
  await openEcho(t, port);
  t.deepEqual(sessions(), ONE_SESSION);
});

const MIB = 2 ** 20;

test.serial('buffered data is handed over without a second copy in either process', async (t) => {
  const folder = temporaryFolder(t);
  const target = await localServer(t, (local) => {
    const fill = (): void => {
      while (local.write(Buffer.alloc(65_536)));
    };
    local.on('drain', fill);
    fill();
  });
  const words = ['-c', `unix-listen:${folder}/channel.sock,resume=600s`, '-i', `x:${target.port}`];
  const { vproxy, socket } = await spawnControlled(t, words);
  const peer = await SocketPeer.established(join(folder, 'channel.sock'), { features: ['resume'] });
  t.teardown(() => peer.socket.destroy());
  const emptyBytes = residentBytes(vproxy.pid);
  // It reads everything, and acknowledges nothing.
  peer.send(FRAME_TYPE.SECRET, 0, Buffer.alloc(32, 's'));
  peer.sendOpen(1, 'x');
  for (const id of [0, 1]) peer.send(FRAME_TYPE.CREDIT, id, creditPayload(2n ** 40n));
  let before = 0;
  const isFull = (): boolean => {
    const last = before;
    before = residentBytes(vproxy.pid);
    return before - emptyBytes > 30 * MIB && before - last < MIB;
  };
  await eventually(isFull, { intervalMs: 500, timeoutMs: 60_000, what: 'a full backlog' });
  const heldBytes = before - emptyBytes;
  let mostBytes = 0;
  const isOver = eventually(
    () => {
      if (!isRunning(vproxy.pid)) return true;
      mostBytes = Math.max(mostBytes, peakBytes(vproxy.pid));
      return false;
    },
    { intervalMs: 2, timeoutMs: 60_000 },
  ).catch(() => undefined);
  const { pid } = await upgrade(t, socket);
  await isOver;
  const what = `of ${heldBytes} held bytes: ${mostBytes - before} more, then ${peakBytes(pid) - emptyBytes}`;
  t.true(mostBytes - before < heldBytes / 2, what);
  t.true(peakBytes(pid) - emptyBytes < 1.5 * heldBytes, what);
});

test('the form of the hand-over is that of the types of the state, generated by the build', (t) => {
  const script = `import { describeDocument, formatForm } from './tools/generate/handover-form.mjs';
    const lines = describeDocument();
    console.log(JSON.stringify({ lines, text: formatForm(lines) }));`;
  const words = ['--input-type=module', '-e', script];
  const output = execFileSync(process.execPath, words, { cwd: PROJECT_ROOT, encoding: 'utf8', maxBuffer: 2 ** 24 });
  const { lines, text } = JSON.parse(output) as { lines: string[]; text: string };
  t.true(lines.length > 40, `only ${lines.length} types`);
  // Of a session, of one of its streams, and of a connection.
  for (const field of ['receivedChunks: number', 'smallFrames: number', 'takenBytes: number']) {
    t.true(lines.join('\n').includes(field), field);
  }
  t.true(text.includes(`'${HANDOVER_FORM}'`), 'what is handed over has changed: npm run build');
});
