/** vproxy as a service: what it tells a service manager, the socket that it is handed, and its lines in the journal. */
import { once } from 'node:events';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { takeServiceEnvironment } from '../../cli/service/environment.js';
import { formatServiceStatus } from '../../cli/service/service-manager.js';
import { storedName } from '../../cli/service/stored-listeners.js';
import type { ChannelStatus } from '../../lib/status/types.js';
import { temporaryFolder } from '../helpers/files.js';
import { openNotifySocket, socketLauncher } from '../helpers/notify-socket.js';
import { eventually } from '../helpers/time.js';
import { ESTABLISHED, runVproxy, spawnVproxy } from '../helpers/vproxy-process.js';

const withNotify = testWith('systemd', 'python');
const withPython = testWith('python');
/** Listens, runs the command with the socket in a process of its own, and keeps the socket when that has ended. */
const HOLDER = `
import os, signal, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(sys.argv[1])
listener.listen(8)
child = os.fork()
if child == 0:
    held = os.dup(listener.fileno())
    os.dup2(held, 3, True)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
    os.execvp(sys.argv[2], sys.argv[2:])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
os.waitpid(child, 0)
signal.pause()
`;

import { testWith } from '../helpers/test-with.js';

const SYSTEM = { NOTIFY_SOCKET: '', WATCHDOG_USEC: '0', JOURNAL_STREAM: '' };

async function connects(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    return true;
  } finally {
    socket.destroy();
  }
}

test('the environment is read for this process alone, and nothing of it is left for others', (t) => {
  const read = (environment: Record<string, string>) => {
    const copy: Record<string, string | undefined> = { ...environment, HOME: '/root' };
    const found = takeServiceEnvironment(copy, 77);
    t.deepEqual(copy, { HOME: '/root' });
    return found;
  };
  const nothing = {
    ...{ notifySocket: null, watchdogMs: null, storeSize: 0, controlDescriptor: null },
    storedDescriptors: new Map(),
  };
  t.deepEqual(read({}), nothing);
  t.deepEqual(read({ NOTIFY_SOCKET: '', WATCHDOG_USEC: '0', LISTEN_FDS: '0', LISTEN_PID: '77' }), nothing);
  t.deepEqual(read({ WATCHDOG_USEC: '9', WATCHDOG_PID: '78', LISTEN_FDS: '1', LISTEN_PID: '78' }), nothing);
  t.deepEqual(read({ WATCHDOG_USEC: 'x', LISTEN_FDS: '1' }), nothing);
  t.deepEqual(
    read({ NOTIFY_SOCKET: '@a', WATCHDOG_USEC: '3000000', WATCHDOG_PID: '77', LISTEN_FDS: '1', LISTEN_PID: '77' }),
    { ...nothing, notifySocket: '@a', watchdogMs: 3000, controlDescriptor: 3 },
  );
  const descriptor = (names: string, count = '2') =>
    read({ LISTEN_FDS: count, LISTEN_PID: '77', LISTEN_FDNAMES: names }).controlDescriptor;
  t.is(descriptor('other:control'), 4);
  t.is(descriptor('vproxy.socket', '1'), 3);
  t.throws(() => descriptor('a:b:control'), {
    message: 'LISTEN_FDNAMES: none of 2 descriptors is called control: a:b',
  });
});

test('stored sockets come by their names, beside the one for control requests', (t) => {
  const [one, other] = [storedName('tcp 127.0.0.1:80'), storedName('unix /x 600 -1 -1 1:2')];
  const read = (names: string) => {
    const count = String(names.split(':').length);
    const environment = { FDSTORE: '16', LISTEN_FDS: count, LISTEN_PID: '77', LISTEN_FDNAMES: names };
    const { storeSize, controlDescriptor, storedDescriptors } = takeServiceEnvironment(environment, 77);
    t.is(storeSize, 16);
    return { controlDescriptor, stored: [...storedDescriptors] };
  };
  t.deepEqual(read(one), { controlDescriptor: null, stored: [[one, 3]] });
  t.deepEqual(read(`${one}:vproxy.socket:${other}`), {
    controlDescriptor: 4,
    stored: [
      [one, 3],
      [other, 5],
    ],
  });
  t.deepEqual(read(`x:${one}:control`), { controlDescriptor: 5, stored: [[one, 4]] });
  t.throws(() => read(`x:${one}:y`), {
    message: 'LISTEN_FDNAMES: none of 2 descriptors is called control: x:y',
  });
  const environment = { FDSTORE: 'x', LISTEN_FDS: '1', LISTEN_PID: '78', LISTEN_FDNAMES: one };
  const { storeSize, storedDescriptors } = takeServiceEnvironment(environment, 77);
  t.deepEqual([storeSize, storedDescriptors.size], [0, 0]);
});

test('the status is of the only channel, or how many of several have a session; what a peer says is escaped', (t) => {
  const down = { state: 'backing-off', detail: 'nobody listens there', session: null };
  const up = { state: 'established', detail: null, session: { peer: { name: 'guest\n1', agent: 'vproxy 1' } } };
  const format = (...channels: object[]) => formatServiceStatus(channels as ChannelStatus[]);
  t.is(format(), 'no channels');
  t.is(format(down), 'no session, backing-off: nobody listens there');
  t.is(format(up), 'session with guest\\n1 (vproxy 1)');
  t.is(format(up, down), '1 of 2 channels has a session');
  t.is(format(up, up, down), '2 of 3 channels have a session');
});

withNotify(
  'it is ready without a peer, tells when one comes, shows that it lives, and says that it ends',
  async (t) => {
    const folder = temporaryFolder(t);
    const { path, facts } = await openNotifySocket(t);
    const env = { ...SYSTEM, NOTIFY_SOCKET: path, WATCHDOG_USEC: '400000' };
    const address = `${folder}/channel.sock`;
    const vproxy = spawnVproxy(t, ['-c', `unix-connect:${address}`, '--control', `${folder}/control.sock`], { env });
    await eventually(() => facts.length >= 2);
    t.is(facts[0], 'READY=1');
    t.regex(facts[1] ?? '', /^STATUS=no session, (?:opening|backing-off)/);
    // Readiness promises that requests are answered.
    t.true(existsSync(`${folder}/control.sock`));
    await eventually(() => facts.filter((fact) => fact === 'WATCHDOG=1').length >= 3);
    const peer = spawnVproxy(t, ['-c', `unix-listen:${address}`, '--name', 'guest1'], { env: SYSTEM });
    await vproxy.waitForLine(ESTABLISHED);
    await eventually(() => facts.some((fact) => /^STATUS=session with guest1 \(vproxy .+\)$/.test(fact)));
    await peer.stop();
    await eventually(() => /^STATUS=no session/.test(facts.findLast((fact) => fact.startsWith('STATUS=')) ?? ''));
    t.is((await vproxy.stop()).code, 0);
    await eventually(() => facts.includes('STOPPING=1'));
    t.is(facts.filter((fact) => fact === 'READY=1').length, 1);
  },
);

withNotify('it is not ready where it cannot listen', async (t) => {
  const folder = temporaryFolder(t);
  const { path, facts } = await openNotifySocket(t);
  writeFileSync(join(folder, 'taken'), '');
  const args = ['-c', `unix-listen:${folder}/channel.sock`, '-o', `ssh:${folder}/taken`];
  const vproxy = spawnVproxy(t, args, { env: { ...SYSTEM, NOTIFY_SOCKET: path } });
  t.is((await vproxy.exited).code, 69);
  t.false(facts.includes('READY=1'));
});

test('where systemd-notify cannot be run there is one warning, and vproxy works', async (t) => {
  const folder = temporaryFolder(t);
  const env = { ...SYSTEM, NOTIFY_SOCKET: `${folder}/none.sock`, WATCHDOG_USEC: '20000', PATH: folder };
  const vproxy = spawnVproxy(t, ['-c', `unix-listen:${folder}/channel.sock`], { env });
  await vproxy.waitForLine(/warning: the service manager is not told how this goes: systemd-notify: /);
  const peer = spawnVproxy(t, ['-c', `unix-connect:${folder}/channel.sock`], { env: SYSTEM });
  await peer.waitForLine(ESTABLISHED);
  t.is((await vproxy.stop()).code, 0);
  t.is(vproxy.lines.filter((line) => line.includes('service manager')).length, 1);
});

withPython('a socket that is handed over is the control socket, and its file outlives the process', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'control.sock');
  const args = ['-c', `unix-listen:${folder}/channel.sock`, '--control', path];
  const options = { env: SYSTEM, launcher: socketLauncher(path, ['other', 'control']) };
  const vproxy = spawnVproxy(t, args, options);
  await vproxy.waitForLine(/taking control requests at the socket that systemd has handed over \(descriptor 4\)/);
  const { stdout, code } = await runVproxy(['status', '--socket', path]);
  t.is(code, 0);
  t.regex(stdout, new RegExp(`process ${vproxy.pid},`));
  t.is((await vproxy.stop()).code, 0);
  t.true(statSync(path).isSocket());
});

withPython(
  'commands that end a process with such a socket come back when it has ended, and ask nobody anew',
  async (t) => {
    for (const command of ['stop', 'drain']) {
      const folder = temporaryFolder(t);
      const path = join(folder, 'control.sock');
      // The launcher's parent keeps the socket, as systemd does: a client that connects after the end waits for ever.
      const hold = ['python3', '-c', HOLDER, path];
      const args = ['-c', `unix-listen:${folder}/channel.sock`, '--control', path];
      const vproxy = spawnVproxy(t, args, { env: SYSTEM, launcher: hold });
      await vproxy.waitForLine(/taking control requests at the socket that systemd has handed over/);
      const { code, stderr } = await runVproxy([command, '--socket', path]);
      t.deepEqual({ code, stderr }, { code: 0, stderr: '' }, command);
      t.is(await connects(path), true, 'the socket still takes connections');
    }
  },
);

withPython('of several sockets one has to be called control', async (t) => {
  const folder = temporaryFolder(t);
  const options = { env: SYSTEM, launcher: socketLauncher(join(folder, 'x.sock'), ['a', 'b']) };
  const vproxy = spawnVproxy(t, ['-c', `unix-listen:${folder}/channel.sock`], options);
  t.is((await vproxy.exited).code, 64);
  t.deepEqual(vproxy.lines, ['vproxy: error: LISTEN_FDNAMES: none of 2 descriptors is called control: a:b']);
});

withPython('what is no listening socket ends the process with a line that says so', async (t) => {
  const folder = temporaryFolder(t);
  const launcher = ['sh', '-c', 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3</dev/null', 'sh'];
  const args = ['-c', `unix-listen:${folder}/channel.sock`, '--control', join(folder, 'control.sock')];
  const vproxy = spawnVproxy(t, args, { env: SYSTEM, launcher });
  t.is((await vproxy.exited).code, 69);
  t.regex(vproxy.lines.at(-1) ?? '', /error: cannot listen on the inherited descriptor 3: /);
});

for (const format of ['text', 'json'] as const) {
  test(`in the journal each line has its priority, as ${format}`, async (t) => {
    const folder = temporaryFolder(t);
    const logFile = join(folder, 'log');
    writeFileSync(logFile, '');
    const { dev, ino } = statSync(logFile);
    const args = ['-c', `unix-listen:${folder}/channel.sock`, '-o', `ssh:${folder}`, '-v', '--log-format', format];
    const start = async (stream: string) => {
      writeFileSync(logFile, '');
      await spawnVproxy(t, args, { env: { ...SYSTEM, JOURNAL_STREAM: stream }, logFile }).exited;
      return readFileSync(logFile, 'utf8').trimEnd().split('\n');
    };
    const lines = await start(`${dev}:${ino}`);
    t.regex(lines.at(-1) ?? '', format === 'text' ? /^<3>vproxy: error: cannot listen/ : /^<3>\{.*"level":"error"/);
    for (const line of lines) t.regex(line, /^<[3467]>[v{]/);
    for (const line of await start(`${dev}:${ino + 1}`)) t.regex(line, /^[v{]/);
  });
}

withNotify('programs that vproxy runs do not see what the service manager said', async (t) => {
  const folder = temporaryFolder(t);
  const { path } = await openNotifySocket(t);
  const seen = join(folder, 'environment');
  const env = { ...SYSTEM, NOTIFY_SOCKET: path, WATCHDOG_USEC: '60000000' };
  spawnVproxy(t, ['-c', `exec:env > ${seen}.new; mv ${seen}.new ${seen}; exec sleep 60`], { env });
  const text = await eventually(() => readFileSync(seen, 'utf8'));
  t.regex(text, /^PATH=/m);
  t.notRegex(text, /^(?:NOTIFY|WATCHDOG|LISTEN)_/m);
});
