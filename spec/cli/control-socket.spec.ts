/** The control socket of the real command line: its path, its owner, and its effects on the process. */
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { socketInEnvironment } from '../../cli/command/find-process.js';
import { chooseControlSocket, listenForControl } from '../../cli/run/control-socket.js';
import { parseRunFlags } from '../../cli/run/run-options.js';
import { ControlServer } from '../../lib/control/server/control-server.js';
import { controlSocketPath } from '../../lib/control/socket-paths.js';
import type { LogEvent } from '../../lib/events.js';
import { callVproxy } from '../helpers/call-vproxy.js';
import { ask, NO_CHANGES, TestProcess } from '../helpers/control.js';
import { temporaryFolder } from '../helpers/files.js';
import { givenIn } from '../helpers/given-options.js';
import { processPair } from '../helpers/process-pair.js';
import {
  answerTo,
  echo,
  endsInOrder,
  localServer,
  localSocket,
  openEcho,
  refusal,
  TestProxy,
} from '../helpers/proxies.js';
import { ESTABLISHED, runVproxy, spawnControlled, spawnVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

test('the path of the control socket depends on --control, --name and the PID', (t) => {
  const path = (configuration: { control?: { path: string } | false; name?: string }, isRoot = true) =>
    chooseControlSocket(configuration, { isRoot, runtimeDirectory: null }, 77)?.path;
  t.is(path({}), '/run/vproxy/77.sock');
  t.is(path({ name: 'vm1' }), '/run/vproxy/vm1.sock');
  t.is(path({ name: 'no/file' }), '/run/vproxy/77.sock');
  t.is(path({ name: '..' }), '/run/vproxy/77.sock');
  t.is(path({ name: 'vm1', control: { path: '/x.sock' } }), '/x.sock');
  t.is(path({ name: 'vm1', control: false }), undefined);
  t.is(path({ name: 'vm1' }, false), null);
});

function controlServer(t: ExecutionContext): ControlServer {
  const { proxy } = new TestProxy(t, 'unix-connect:/nonexistent/channel.sock');
  const server = new ControlServer({ proxy, process: new TestProcess() });
  t.teardown(() => server.close());
  return server;
}

test('a given path may come with the access of others', async (t) => {
  const server = controlServer(t);
  const path = join(temporaryFolder(t), 'c');
  const { gid } = userInfo();
  const flags = parseRunFlags(givenIn({ channel: 'stdio:', control: `${path},mode=0660,group=${gid}` }));
  const { control } = flags;
  t.deepEqual(control, { path, access: { mode: 0o660, group: String(gid) } });
  const socket = chooseControlSocket({ control: control ?? false }, { isRoot: true, runtimeDirectory: null }, 77);
  if (socket !== null) await listenForControl(server, socket, () => undefined);
  t.deepEqual([statSync(path).mode & 0o777, statSync(path).gid], [0o660, gid]);
  t.is(socketInEnvironment({ VPROXY_CONTROL: `${path},mode=0660` }), path);
  t.throws(() => parseRunFlags(givenIn({ control: '/c,mode=9' })), { message: /^--control: mode=9 is not an octal/ });
});

test('an unusable default path is a warning, a given one an error', async (t) => {
  const server = controlServer(t);
  const logged: LogEvent[] = [];
  const listen = (path: string | null, isExplicit: boolean) =>
    listenForControl(server, { path, askedBy: isExplicit ? '' : null, isExplicit }, (event) => logged.push(event));
  const path = '/dev/null/vproxy/1.sock';
  await listen(path, false);
  t.like(logged, [{ level: 'warn', event: 'control-off' }]);
  t.regex(logged[0]?.message ?? '', /^no control socket: cannot listen on \/dev\/null\/vproxy\/1\.sock: /);
  await t.throwsAsync(listen(path, true), { message: /cannot listen on \/dev\/null/ });
  await listen(null, false);
  t.regex(logged[1]?.message ?? '', /XDG_RUNTIME_DIR is not set/);
});

test.serial('of two processes with one name the second reports it and exits with 69, before it listens', async (t) => {
  // As root, all processes share a folder.
  const runtimeDirectory = temporaryFolder(t);
  const name = `spec-${process.pid}-${runtimeDirectory.split('-').at(-1) ?? ''}`;
  const path = controlSocketPath(name, { isRoot: process.getuid?.() === 0, runtimeDirectory }) ?? '';
  const start = (...args: readonly string[]) => {
    const words = ['-c', `unix-listen:${runtimeDirectory}/channel.sock`, '--name', name, ...args];
    return spawnVproxy(t, words, { hasDefaultControl: true, env: { XDG_RUNTIME_DIR: runtimeDirectory } });
  };
  const first = start();
  await first.waitForLine(TAKING_CONTROL);
  t.true(existsSync(path));
  const second = start('-o', `ssh:${runtimeDirectory}/ssh.sock`, '--log-format', 'json');
  t.deepEqual(await second.exited, { code: 69, signal: null });
  t.is(second.lines.length, 1);
  t.like(JSON.parse(second.lines[0] ?? ''), {
    event: 'failed',
    message: `--name ${name}: already in use by another vproxy`,
    fields: { code: 'address-in-use' },
  });
  // A killed process leaves the file behind.
  first.kill('SIGKILL');
  await first.exited;
  t.true(existsSync(path));
  const third = start();
  await third.waitForLine(TAKING_CONTROL);
  t.regex((await callVproxy(['reload', '--socket', path])).stderr, /nothing to reload: started without --config\n$/);
  t.is((await third.stop()).code, 0);
  t.false(existsSync(path));
});

test.serial('a --control path that is in use or unusable ends it with an error', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'control.sock');
  await spawnVproxy(t, ['-c', `unix-listen:${folder}/a.sock`, '--control', path]).waitForLine(TAKING_CONTROL);
  const second = (control: string) => runVproxy(['-c', `unix-listen:${folder}/b.sock`, '--control', control]);
  const line = `vproxy: error: --control ${path}: already in use by another vproxy\n`;
  t.deepEqual(await second(path), { code: 69, stdout: '', stderr: line });
  const impossible = await second('/dev/null/c.sock');
  t.is(impossible.code, 69);
  t.regex(impossible.stderr, /error: cannot listen on \/dev\/null\/c\.sock: /);
});

for (const timeoutS of [30, 0]) {
  test.serial(`drain ends the process when its streams have ended, or after ${timeoutS} s`, async (t) => {
    const target = await localServer(t, echo);
    const forwards = { host: ['-o', 'echo:127.0.0.1:0'], guest: ['-i', `echo:${target.port}`] };
    const { host, sockets } = await processPair(t, { control: 'both', ...forwards });
    const socket = localSocket(t, await host.listeningPort('echo'));
    socket.on('error', () => undefined);
    await answerTo(socket, 'before');
    const answer = await ask({ socketPath: sockets[0] }, 'POST', '/v1/drain', { body: { timeoutS } });
    t.is(answer.status, 202);
    if (timeoutS > 0) {
      await host.waitForLine(/exiting when all streams have ended/);
      t.is(await answerTo(socket, 'meanwhile'), 'meanwhile');
      socket.end();
    }
    t.deepEqual(await host.exited, { code: 0, signal: null });
  });
}

test.serial('a reload reports what it changes, or why it changes nothing, and an open stream continues', async (t) => {
  const folder = temporaryFolder(t);
  const target = await localServer(t, echo);
  const config = join(folder, 'vproxy.toml');
  const write = (services: readonly string[], more = '') => {
    const outgoing = services.map((service) => `"${service}:${folder}/${service}.sock"`).join(', ');
    const vm1 = `[channels.vm1]\naddress = "unix-listen:${folder}/a.sock"\noutgoing = [${outgoing}]\n`;
    writeFileSync(config, `${vm1}${more}`);
  };
  write(['kept', 'dropped']);
  const { vproxy: host, socket: socketPath } = await spawnControlled(t, ['--config', config]);
  const incoming = ['kept', 'added'].flatMap((service) => ['-i', `${service}:${target.port}`]);
  spawnVproxy(t, ['-c', `unix-connect:${folder}/a.sock`, ...incoming]);
  await host.waitForLine(ESTABLISHED);
  const kept = await openEcho(t, join(folder, 'kept.sock'));
  const reload = () => ask({ socketPath }, 'POST', '/v1/reload', { body: {} });

  write(['kept', 'added'], `[channels.vm2]\naddress = "unix-listen:${folder}/b.sock"\n`);
  host.kill('SIGHUP');
  const { input } = await host.waitForLine(/reloaded: /);
  t.regex(input, /channels added: vm2; forwards added: -o vm1\/added:\S+; forwards removed: -o vm1\/dropped:\S+$/);
  t.is(await refusal(t, join(folder, 'dropped.sock')), 'ENOENT');

  // An invalid file, and one that cannot take effect: nothing changes, and each is reported with its reason.
  writeFileSync(config, 'wait = 1.5\nwayt = 3\n');
  host.kill('SIGHUP');
  await host.waitForLine(/error: not reloaded: \S+: wait: expected a whole number/);
  await host.waitForLine(/error: not reloaded: \S+: wayt: unknown key; did you mean wait\?/);
  t.is((await reload()).status, 422);
  write(['kept', 'added'], `[channels.vm3]\naddress = "stdio:"\noutgoing = ["x:/nonexistent/x.sock"]\n`);
  t.regex((await reload()).text, /cannot listen on \/nonexistent\/x\.sock/);
  const channels = { vm2: { address: `unix-listen:${folder}/b.sock` } };
  t.like((await ask({ socketPath }, 'GET', '/v1/config')).body, { channels });

  // An equivalent file is not a change, however it is written.
  write(['kept', 'added'], `[channels.vm2]\naddress = "unix-listen://${folder}/b.sock"\nwait = 10\n`);
  t.deepEqual((await reload()).body, NO_CHANGES);
  for (const socket of [kept, await openEcho(t, join(folder, 'added.sock'))]) t.true(await endsInOrder(socket));
  t.like((await ask({ socketPath }, 'GET', '/v1/channels/vm1')).body, { history: { sessions: 1 } });
  t.deepEqual(await host.stop(), { code: 0, signal: null });
});
