/** `vproxy upgrade`: what a process keeps beside its streams is its successor's, too. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { connectControl } from '../../lib/control/client/client.js';
import { callStorage } from '../../lib/storage/wrapper.js';
import { deferred } from '../../lib/util/concurrency.js';
import { ask } from '../helpers/control.js';
import { Exchanges } from '../helpers/exchanges.js';
import { temporaryFolder } from '../helpers/files.js';
import { processPair } from '../helpers/process-pair.js';
import { echo, failureOf, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { CuttingRelay } from '../helpers/relays.js';
import { type Behaviour, startDialingEmulator } from '../helpers/storage-emulators.js';
import { eventually } from '../helpers/time.js';
import { runUpgrade, upgrade } from '../helpers/upgrades.js';
import { ENDED, ESTABLISHED, isRunning, spawnVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

test.serial(
  'a group goes on: its channels, what was removed by hand, what comes to its folder and goes, and its own folders',
  async (t) => {
    const folder = temporaryFolder(t);
    const [config, socket, vms] = [join(folder, 'vproxy.toml'), join(folder, 'control.sock'), join(folder, 'vms')];
    mkdirSync(vms);
    const forward = `echo:${folder}/own/{channel}.sock`;
    writeFileSync(config, `[channels.vms]\naddress = "unix://${vms}/*.sock"\noutgoing = ["${forward}"]\n`);
    const host = spawnVproxy(t, ['--config', config, '--control', socket]);
    await host.waitForLine(TAKING_CONTROL);
    const target = await localServer(t, echo);
    const startGuest = async (vm: string) => {
      const guest = spawnVproxy(t, ['-c', `unix-listen:${vms}/${vm}.sock`, '-i', `echo:${target.port}`]);
      await host.waitForLine(new RegExp(`${vm}: ${ESTABLISHED.source}`));
      return guest;
    };
    await startGuest('vm7');
    await startGuest('vm8');
    const client = connectControl(socket);
    const channels = async () => (await client.status()).channels.map(({ label, group }) => `${group ?? ''}/${label}`);
    const stream = localSocket(t, { path: join(folder, 'own/vm7.sock') });
    stream.write('before, ');
    await client.removeChannel('vm8');

    await upgrade(t, socket);
    const from = host.lines.length;
    process.kill((await client.status()).process.pid, 'SIGHUP');
    await host.waitForLine(/reloaded: nothing has changed/, { from });
    const vm9 = await startGuest('vm9');
    t.deepEqual(await channels(), ['vms/vm7', 'vms/vm9']);
    await vm9.stop();
    await eventually(async () => (await channels()).join() === 'vms/vm7', { what: 'the end of vm9' });
    stream.end('and behind it');
    t.is(String(await readToEnd(stream)), 'before, and behind it');
    t.is((await client.channel('vm7')).history.sessions, 1);

    const { pid } = (await client.status()).process;
    process.kill(pid, 'SIGTERM');
    await eventually(() => !isRunning(pid), { what: 'the end of the successor' });
    t.false(existsSync(join(folder, 'own')), 'a folder that the predecessor made');
  },
);

test.serial(
  'storage calls and metrics are answered where they were; a call that is under way is waited for',
  async (t) => {
    const folder = temporaryFolder(t);
    const [socket, storage] = [join(folder, 'control.sock'), join(folder, 'storage.sock')];
    const { host, guest } = await processPair(t, {
      host: ['-o', 'storage:127.0.0.1:0'],
      guest: ['--control', socket, '--storage-socket', storage, '--metrics', '127.0.0.1:0'],
    });
    const [, port] = await guest.waitForLine(/serving metrics at http:\/\/127\.0\.0\.1:(\d+)\/metrics/);
    await guest.waitForLine(TAKING_CONTROL);
    const [asked, answer] = [deferred(), deferred<Behaviour>()];
    startDialingEmulator(t, await host.listeningPort('storage'), ([, word]) => {
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
    const { code, stderr } = await runUpgrade(socket, ['--wait', '0']);
    t.is(code, 1);
    t.regex(stderr, /default: storage calls that are under way \(1\)/);
    answer.resolve({ stdout: 'slowly\n', stderr: '', status: 0 });
    t.deepEqual(await slow, ['slowly\n', 0]);
    await upgrade(t, socket);
    t.deepEqual(await call('two'), ['two\n', 3]);
    const { status, text } = await ask({ host: '127.0.0.1', port: Number(port) }, 'GET', '/metrics');
    t.is(status, 200);
    t.regex(text, /^vproxy_channel_sessions_total\{channel="default"\} 1$/m);
  },
);

test.serial('a session that has no link goes on when there is one, in the successors of both sides', async (t) => {
  const folder = temporaryFolder(t);
  const [near, far] = [join(folder, 'near'), join(folder, 'far')];
  const sockets = [join(folder, 'host.sock'), join(folder, 'guest.sock')] as const;
  const relay = new CuttingRelay();
  await relay.start(t, near, far);
  const exchanges = await Exchanges.start(t);
  const { host, guest } = await processPair(t, {
    ...{ hostPath: `${far},resume=60s`, guestPath: `${near},resume=60s` },
    host: ['--control', sockets[0], '-o', `x:${exchanges.localPath}`],
    guest: ['--control', sockets[1], '-i', `x:${exchanges.targetPath}`],
  });
  await Promise.all([host, guest].map((side) => side.waitForLine(TAKING_CONTROL)));
  await exchanges.open(10);
  await exchanges.received(2_000_000);
  relay.leftBytes = 0;
  relay.cut();
  await Promise.all([host, guest].map((side) => side.waitForLine(/lost its link; 10 streams wait/)));
  for (const socket of [...sockets, ...sockets]) t.is((await upgrade(t, socket)).streams, 10);
  relay.leftBytes = Number.POSITIVE_INFINITY;
  process.kill((await connectControl(sockets[1]).status()).process.pid, 'SIGHUP');
  await exchanges.received(2_000_000);
  t.deepEqual(await exchanges.finish(), []);
  for (const { lines } of [host, guest]) {
    t.is(lines.filter((line) => ESTABLISHED.test(line)).length, 1);
    t.is(lines.filter((line) => ENDED.test(line)).length, 0);
  }
});

test.serial('a reload removes what the file had declared, and leaves what was added by hand', async (t) => {
  const folder = temporaryFolder(t);
  const [config, socket] = [join(folder, 'vproxy.toml'), join(folder, 'control.sock')];
  const declare = (service: string) =>
    writeFileSync(
      config,
      `[channels.vm1]\naddress = "unix-listen:${folder}/vm1.sock"\noutgoing = ["${service}:127.0.0.1:0"]\n`,
    );
  declare('a');
  const host = spawnVproxy(t, ['--config', config, '--control', socket]);
  await host.waitForLine(TAKING_CONTROL);
  const client = connectControl(socket);
  await client.addForward({ direction: 'outgoing', spec: 'b:127.0.0.1:0' });
  await client.addChannel({ label: 'vm2', address: `unix-listen:${folder}/vm2.sock` });
  await upgrade(t, socket);
  declare('c');
  await client.reload();
  t.deepEqual((await client.forwards()).map(({ service }) => service).sort(), ['b', 'c']);
  t.deepEqual((await client.status()).channels.map(({ label }) => label).sort(), ['vm1', 'vm2']);
});

/** A guest whose service `x` echoes and has a rule. */
async function guestWithRule(t: ExecutionContext, rule: string) {
  const folder = temporaryFolder(t);
  const [config, socket] = [join(folder, 'guest.toml'), join(folder, 'control.sock')];
  const target = await localServer(t, echo);
  writeFileSync(config, `[services.x]\n${rule}\n`);
  const { host, guest } = await processPair(t, {
    host: ['-o', 'x:127.0.0.1:0'],
    guest: ['--config', config, '--control', socket, '-i', `x:${target.port}`],
  });
  await guest.waitForLine(TAKING_CONTROL);
  const port = await host.listeningPort('x');
  const client = connectControl(socket);
  const open = localSocket(t, { port });
  await eventually(async () => (await client.streams()).length === 1, { what: 'the stream' });
  return { socket, port, open };
}

test.serial('the rule of a service counts a stream that it let in before', async (t) => {
  const { socket, port, open } = await guestWithRule(t, 'streams = 1');
  await upgrade(t, socket);
  t.is((await failureOf(localSocket(t, { port }))).code, 'ECONNRESET');
  open.end('to the end');
  t.is(String(await readToEnd(open)), 'to the end');
});

test.serial('the rule of a service ends a stream that has been idle since', async (t) => {
  const { socket, open } = await guestWithRule(t, 'idle-timeout = 2');
  const working = setInterval(() => open.write('.'), 100);
  t.teardown(() => clearInterval(working));
  const failure = failureOf(open);
  t.is((await upgrade(t, socket)).streams, 1);
  clearInterval(working);
  t.is((await failure).code, 'ECONNRESET');
});

for (const direction of ['incoming', 'outgoing'] as const) {
  test.serial(`an ${direction} forward that drains, drains in the successor`, async (t) => {
    const socket = join(temporaryFolder(t), 'control.sock');
    const target = await localServer(t, echo);
    const [offering, listening] = [
      ['-i', `x:${target.port}`],
      ['-o', 'x:127.0.0.1:0'],
    ];
    const control = ['--control', socket];
    const { host, guest } = await processPair(
      t,
      direction === 'incoming'
        ? { host: listening, guest: [...offering, ...control] }
        : { host: [...listening, ...control], guest: offering },
    );
    await (direction === 'incoming' ? guest : host).waitForLine(TAKING_CONTROL);
    const port = await host.listeningPort('x');
    const client = connectControl(socket);
    const open = localSocket(t, { port });
    await eventually(async () => (await client.streams()).length === 1, { what: 'the stream' });
    const [forward] = await client.forwards();
    const isDraining = async () => (await client.forwards())[0]?.state === 'draining';
    const unanswered = t.throwsAsync(client.removeForward(forward?.id ?? ''), {
      message: /ended before it had answered/,
    });
    await eventually(isDraining, { what: 'the removal' });

    t.is((await upgrade(t, socket)).streams, 1);
    await unanswered;
    t.true(await isDraining());
    const { code } = await failureOf(localSocket(t, { port }));
    t.is(code, direction === 'incoming' ? 'ECONNRESET' : 'ECONNREFUSED');
    open.end('to the end');
    t.is(String(await readToEnd(open)), 'to the end');
    await eventually(async () => (await client.forwards()).length === 0, { what: 'the end of the forward' });
  });
}
