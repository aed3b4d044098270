/** The control socket of the real command line: where it is, whose it is, and what it does to the process. */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { chooseControlSocket, listenForControl } from '../../cli/run/control-socket.js';
import { ControlServer } from '../../lib/control/server/control-server.js';
import { controlSocketPath } from '../../lib/control/socket-paths.js';
import type { LogEvent } from '../../lib/events.js';
import { ask, TestProcess } from '../helpers/control.js';
import { temporaryFolder } from '../helpers/files.js';
import { echo, localServer, localSocket, TestProxy } from '../helpers/proxies.js';
import { within } from '../helpers/time.js';
import { ESTABLISHED, runVproxy, spawnVproxy, type VproxyProcess } from '../helpers/vproxy-process.js';

const PLACE = { isRoot: true, runtimeDirectory: null };

test('the path of the control socket follows from --control, --name, and the number of the process', (t) => {
  const path = (configuration: { control?: string | false; name?: string }, place = PLACE) =>
    chooseControlSocket(configuration, place, 77)?.path;
  t.is(path({}), '/run/vproxy/77.sock');
  t.is(path({ name: 'vm1' }), '/run/vproxy/vm1.sock');
  t.is(path({ name: 'no/file' }), '/run/vproxy/77.sock');
  t.is(path({ name: '..' }), '/run/vproxy/77.sock');
  t.is(path({ name: 'vm1', control: '/x.sock' }), '/x.sock');
  t.is(path({ name: 'vm1', control: false }), undefined);
  t.is(path({ name: 'vm1' }, { ...PLACE, isRoot: false }), null);
});

test('a default path that cannot be had is a warning, one that was given an error', async (t) => {
  const { proxy } = new TestProxy(t, 'unix-connect:/nonexistent/channel.sock');
  const server = new ControlServer({ proxy, process: new TestProcess() });
  t.teardown(() => server.close());
  const logged: LogEvent[] = [];
  const path = '/dev/null/vproxy/1.sock';
  await listenForControl(server, { path, askedBy: null, isExplicit: false }, (event) => logged.push(event));
  t.like(logged, [{ level: 'warn', event: 'control-off' }]);
  t.regex(logged[0]?.message ?? '', /^no control socket: cannot listen on \/dev\/null\/vproxy\/1\.sock: /);
  await t.throwsAsync(
    listenForControl(server, { path, askedBy: '', isExplicit: true }, () => undefined),
    {
      message: /cannot listen on \/dev\/null/,
    },
  );
  await listenForControl(server, { path: null, askedBy: null, isExplicit: false }, (event) => logged.push(event));
  t.regex(logged[1]?.message ?? '', /XDG_RUNTIME_DIR is not set/);
});

/** The path of the socket of a process of this test that is given a name; as root, all processes share that folder. */
function named(t: ExecutionContext): { name: string; path: string; options: object } {
  const runtimeDirectory = temporaryFolder(t);
  const name = `spec-${process.pid}-${runtimeDirectory.split('-').at(-1) ?? ''}`;
  const path = controlSocketPath(name, { isRoot: process.getuid?.() === 0, runtimeDirectory }) ?? '';
  return { name, path, options: { hasDefaultControl: true, env: { XDG_RUNTIME_DIR: runtimeDirectory } } };
}

test.serial('of two processes with one name the second says so and ends with 69, before it listens', async (t) => {
  const { name, path, options } = named(t);
  const folder = temporaryFolder(t);
  const start = (args: readonly string[]) =>
    spawnVproxy(t, ['-c', `unix-listen:${folder}/channel.sock`, '--name', name, ...args], options);
  const first = start([]);
  await first.waitForLine(/taking control requests at /);
  t.true(existsSync(path));
  const second = start(['-o', `ssh:${folder}/ssh.sock`, '--log-format', 'json']);
  t.deepEqual(await second.exited, { code: 69, signal: null });
  t.is(second.lines.length, 1);
  t.like(JSON.parse(second.lines[0] ?? ''), {
    event: 'failed',
    message: `--name ${name}: another vproxy has it: ${path} answers`,
    fields: { code: 'address-in-use' },
  });
  // A killed process leaves the file, which no process uses then.
  first.kill('SIGKILL');
  await first.exited;
  t.true(existsSync(path));
  const third = start([]);
  await third.waitForLine(/taking control requests at /);
  t.is((await third.stop()).code, 0);
  t.false(existsSync(path));
});

test.serial('a --control path that another process answers on, or that cannot be, ends it with an error', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'control.sock');
  const first = spawnVproxy(t, ['-c', `unix-listen:${folder}/a.sock`, '--control', path]);
  await first.waitForLine(/taking control requests at /);
  t.deepEqual(await runVproxy(['-c', `unix-listen:${folder}/b.sock`, '--control', path]), {
    code: 69,
    stdout: '',
    stderr: `vproxy: error: --control ${path}: another vproxy has it: ${path} answers\n`,
  });
  const impossible = await runVproxy(['-c', `unix-listen:${folder}/b.sock`, '--control', '/dev/null/c.sock']);
  t.is(impossible.code, 69);
  t.regex(impossible.stderr, /error: cannot listen on \/dev\/null\/c\.sock: /);
});

test.serial('requests reach the process: its log level, its configuration, drain, stop', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'control.sock');
  const at = { socketPath: path };
  const start = async () => {
    const vproxy = spawnVproxy(t, [
      '-c',
      `vm1=unix-listen:${folder}/a.sock`,
      '--control',
      path,
      '-o',
      'ssh:0',
      '--wait',
      '3',
    ]);
    await vproxy.waitForLine(/taking control requests at /);
    return vproxy;
  };
  const first = await start();
  t.like((await ask(at, 'GET', '/v1/config')).body, {
    control: path,
    'log-level': 'info',
    channels: {
      vm1: {
        address: `unix-listen:${folder}/a.sock`,
        outgoing: ['ssh:127.0.0.1:0'],
        incoming: [],
        wait: 3,
        insecure: false,
      },
    },
  });
  t.is((await ask(at, 'PUT', '/v1/log-level', { body: { level: 'debug' } })).status, 200);
  t.like((await ask(at, 'GET', '/v1/config')).body, { 'log-level': 'debug' });
  const reload = await ask(at, 'POST', '/v1/reload', { body: {} });
  t.is(reload.status, 422);
  t.regex(reload.text, /there is nothing to reload: no --config was given/);
  t.is((await ask(at, 'POST', '/v1/stop', { body: {} })).status, 202);
  t.deepEqual(await within(5000, 'stop', first.exited), { code: 0, signal: null });
  const second = await start();
  t.is((await ask(at, 'POST', '/v1/drain', { body: {} })).status, 202);
  t.deepEqual(await within(5000, 'drain', second.exited), { code: 0, signal: null });
});

test.serial('drain ends the process when its streams have ended, or when its time is up', async (t) => {
  const folder = temporaryFolder(t);
  const target = await localServer(t, echo);
  const control = { socketPath: join(folder, 'control.sock') };
  for (const timeoutS of [30, 0]) {
    const host = spawnVproxy(t, [
      '-c',
      `unix-listen:${folder}/a.sock`,
      '--control',
      control.socketPath,
      '-o',
      'echo:127.0.0.1:0',
    ]);
    const port = await host.listeningPort('echo');
    const guest = spawnVproxy(t, ['-c', `unix-connect:${folder}/a.sock`, '-i', `echo:${target.port}`]);
    const socket = localSocket(t, { host: '127.0.0.1', port });
    socket.on('error', () => undefined);
    await exchange(socket, 'before');
    t.is((await ask(control, 'POST', '/v1/drain', { body: { timeoutS } })).status, 202);
    if (timeoutS > 0) {
      await host.waitForLine(/ending when all streams have ended/);
      await exchange(socket, 'meanwhile');
      socket.end();
    }
    t.deepEqual(await within(5000, 'drain', host.exited), { code: 0, signal: null });
    await guest.stop();
  }
});

test.serial('metrics are served on an address of their own', async (t) => {
  const vproxy = spawnVproxy(t, ['-c', `unix-listen:${temporaryFolder(t)}/a.sock`, '--metrics', '127.0.0.1:0']);
  const [, port] = await vproxy.waitForLine(/serving metrics at http:\/\/127\.0\.0\.1:(\d+)\/metrics/);
  const { status, text } = await ask({ host: '127.0.0.1', port: Number(port) }, 'GET', '/metrics');
  t.is(status, 200);
  t.regex(text, /^# TYPE vproxy_/m);
});

test.serial('a reload with 50 streams open: those of forwards that stay carry on', async (t) => {
  const folder = temporaryFolder(t);
  const target = await localServer(t, echo);
  const config = join(folder, 'vproxy.toml');
  const control = { socketPath: join(folder, 'control.sock') };
  const write = (services: readonly string[], more = '') => {
    const outgoing = services.map((service) => `"${service}:${folder}/${service}.sock"`).join(', ');
    writeFileSync(
      config,
      `[channels.vm1]\naddress = "unix-listen:${folder}/a.sock"\noutgoing = [${outgoing}]\n${more}`,
    );
  };
  write(['kept', 'dropped']);
  const host = spawnVproxy(t, ['--config', config, '--control', control.socketPath]);
  await host.waitForLine(/taking control requests at /);
  const incoming = ['kept', 'dropped', 'added'].flatMap((service) => ['-i', `${service}:${target.port}`]);
  spawnVproxy(t, ['-c', `unix-connect:${folder}/a.sock`, ...incoming]);
  await host.waitForLine(ESTABLISHED);
  const sockets = Array.from({ length: 50 }, () => localSocket(t, { path: join(folder, 'kept.sock') }));
  const dropped = localSocket(t, { path: join(folder, 'dropped.sock') });
  await Promise.all([...sockets, dropped].map((socket) => exchange(socket, 'before')));
  const all = (text: string) => Promise.all(sockets.map((socket) => exchange(socket, text)));

  write(['kept', 'added'], `[channels.vm2]\naddress = "unix-listen:${folder}/b.sock"\n`);
  const from = host.lines.length;
  host.kill('SIGHUP');
  const { input } = await host.waitForLine(/reloaded: /, { from });
  t.regex(input, /channels added: vm2; forwards added: -o vm1\/added:\S+; forwards removed: -o vm1\/dropped:\S+$/);
  await all('after');
  // What was open there may finish; new connections are not accepted.
  await exchange(dropped, 'after');
  await t.throwsAsync(exchange(localSocket(t, { path: join(folder, 'dropped.sock') }), 'new'));
  await exchange(localSocket(t, { path: join(folder, 'added.sock') }), 'new');
  t.is(await sessionCount(control), 1);

  // A file that is wrong, and one that cannot be put in force: nothing changes, and each is reported with its reason.
  writeFileSync(config, 'wait = 1.5\nwayt = 3\n');
  host.kill('SIGHUP');
  await host.waitForLine(/error: not reloaded: \S+: wait: expected a whole number/);
  await host.waitForLine(/error: not reloaded: \S+: wayt: there is no such key; did you mean wait\?/);
  t.is((await ask(control, 'POST', '/v1/reload', { body: {} })).status, 422);
  write(['kept', 'added'], `[channels.vm3]\naddress = "stdio:"\noutgoing = ["x:/nonexistent/x.sock"]\n`);
  const refused = await ask(control, 'POST', '/v1/reload', { body: {} });
  t.regex(refused.text, /cannot listen on \/nonexistent\/x\.sock/);
  await all('still');
  await exchange(localSocket(t, { path: join(folder, 'added.sock') }), 'still');
  t.is(await sessionCount(control), 1);
  t.like((await ask(control, 'GET', '/v1/config')).body, {
    channels: { vm2: { address: `unix-listen:${folder}/b.sock` } },
  });

  // The same file as before is not a change, however it is written.
  write(['kept', 'added'], `[channels.vm2]\naddress = "unix-listen://${folder}/b.sock"\nwait = 10\n`);
  t.deepEqual((await ask(control, 'POST', '/v1/reload', { body: {} })).body, {
    addedChannels: [],
    removedChannels: [],
    replacedChannels: [],
    addedForwards: [],
    removedForwards: [],
    changedPolicies: [],
    changedEgress: [],
    nextStart: [],
  });
  await all('at last');
  await stopInOrder(t, host);
});

async function sessionCount(control: { readonly socketPath: string }): Promise<number> {
  const { body } = await ask(control, 'GET', '/v1/channels/vm1');
  return (body as { history: { sessions: number } }).history.sessions;
}

async function stopInOrder(t: ExecutionContext, vproxy: VproxyProcess): Promise<void> {
  t.deepEqual(await vproxy.stop(), { code: 0, signal: null });
}

/** Writes a text and waits until it has come back. */
function exchange(socket: ReturnType<typeof localSocket>, text: string): Promise<void> {
  return within(
    20_000,
    `the echo of ${text}`,
    new Promise((resolve, reject) => {
      let left = text;
      const take = (data: Buffer) => {
        left = left.slice(data.length);
        if (left !== '') return;
        socket.off('data', take).off('error', reject);
        resolve();
      };
      socket.on('data', take).once('error', reject);
      socket.once('close', () => reject(new Error('closed')));
      socket.write(text);
    }),
  );
}
