/** The process that a command is for, if nothing names its socket. */
import { once } from 'node:events';
import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { findSocket as find } from '../../cli/command/find-process.js';
import { ControlServer } from '../../lib/control/server/control-server.js';
import { TestProcess } from '../helpers/control.js';
import { temporaryFolder } from '../helpers/files.js';
import { TestProxy } from '../helpers/proxies.js';

const findSocket = (choice: Parameters<typeof find>[0]) => find({ ...choice, answerMs: 30_000 });

/** A process with its control socket at a path. */
async function running(t: ExecutionContext, path: string): Promise<void> {
  const { proxy } = new TestProxy(t, `unix-listen:${path}.channel`);
  const server = new ControlServer({ proxy, process: new TestProcess() });
  await server.listen({ path });
  t.teardown(() => server.close());
}

test('an option wins over the environment, and that over the folder', async (t) => {
  const folder = temporaryFolder(t);
  t.is(await findSocket({ socket: '/a', environment: '/b', folder }), '/a');
  t.is(await findSocket({ name: 'vm1', environment: '/b', folder }), join(folder, 'vm1.sock'));
  t.is(await findSocket({ environment: '/b', folder }), '/b');
  await t.throwsAsync(findSocket({ socket: '/a', name: 'b', folder }), { code: 'bad-argument' });
});

test('a single file is used without asking; of several, the one that answers', async (t) => {
  const folder = temporaryFolder(t);
  const one = join(folder, 'vm1.sock');
  await running(t, one);
  // The storage broker's socket is not a control socket, whatever listens there.
  await running(t, join(folder, 'storage.sock'));
  t.is(await findSocket({ folder }), one);
  writeFileSync(join(folder, 'vm2.sock'), '');
  const silent = net.createServer((socket) => socket.on('error', () => undefined).end('220 hello\r\n'));
  await once(silent.listen(join(folder, 'vm3.sock')), 'listening');
  t.teardown(() => silent.close());
  t.is(await findSocket({ folder }), one);
});

test('several answering processes are listed', async (t) => {
  const folder = temporaryFolder(t);
  await running(t, join(folder, 'vm1.sock'));
  await running(t, join(folder, 'vm2.sock'));
  const { pid } = process;
  const message = `several vproxy processes are running: vm1 (PID ${pid}), vm2 (PID ${pid}); choose one with --name`;
  await t.throwsAsync(findSocket({ folder }), { code: 'bad-argument', message });
});

test('it is an error if no process runs, or none of that name', async (t) => {
  const folder = temporaryFolder(t);
  const none = { code: 'control-unavailable', message: /no running vproxy/ };
  for (const path of [folder, join(folder, 'none')]) await t.throwsAsync(findSocket({ folder: path }), none);
  await t.throwsAsync(findSocket({ folder: null }), { ...none, message: /XDG_RUNTIME_DIR/ });
  await t.throwsAsync(findSocket({ name: 'x', folder: null }), { code: 'control-unavailable' });
  // A process that has its socket elsewhere, or of another user, as /proc shows it.
  const proc = temporaryFolder(t);
  mkdirSync(join(proc, '12'));
  writeFileSync(join(proc, '12/comm'), 'vproxy\n');
  writeFileSync(join(proc, '12/cmdline'), 'vproxy -c unix-listen:/x --name host1 --control /none,mode=0600\0');
  const told = (message: RegExp) =>
    Promise.all([folder, null].map((path) => t.throwsAsync(findSocket({ folder: path, proc }), { ...none, message })));
  await told(/; PID 12 has its socket elsewhere: use --socket PATH \(see vproxy ps\)$/);
  if (process.getuid?.() === 0) {
    chownSync(join(proc, '12'), 12_345, -1);
    await told(/; PID 12 is of user 12345: become that user, or start it with --control PATH,group=NAME/);
  }
  // Processes are asked for a name that cannot be a file name.
  await running(t, join(folder, '123.sock'));
  await t.throwsAsync(findSocket({ name: 'my vm', folder }), { ...none, message: /"my vm"/ });
});
