/** The real command line over channels of other programs: `exec:`, `stdio:`, `fd:`, and `ssh://host/path` over a real sshd. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import {
  answerTo,
  echo,
  endsInOrder,
  localServer,
  localSocket,
  openEcho,
  readToEnd,
  startProxy,
} from '../helpers/proxies.js';
import { testWith } from '../helpers/test-with.js';
import { eventually, within } from '../helpers/time.js';
import { ENDED, ESTABLISHED, isRunning, spawnVproxy } from '../helpers/vproxy-process.js';

const PROGRAM = [join(PROJECT_ROOT, 'dist/program/vproxy.cjs'), '--no-control'];

async function checkEcho(t: ExecutionContext, port: number): Promise<void> {
  const socket = localSocket(t, port);
  const sent = Buffer.from(Array.from({ length: 600_000 }, (_, index) => (index * 7 + (index >>> 8)) % 256));
  socket.end(sent);
  t.true((await readToEnd(socket)).equals(sent));
}

/** The far side logs to the same stderr. */
const NEAR_ESTABLISHED = /\bsession established with far,/;

/** A vproxy whose channel is another vproxy, which it starts; `far` follows the `-c stdio:` of that one. */
async function startOverExec(t: ExecutionContext, { prefix = '', far = '' } = {}) {
  const server = await localServer(t, echo);
  const file = join(temporaryFolder(t), 'pid');
  const vproxy = [process.execPath, ...PROGRAM].join(' ');
  const remote = `echo $$ > ${file}; exec ${vproxy} -c stdio: --name far -i echo:127.0.0.1:${server.port}${far}`;
  const near = spawnVproxy(t, ['-c', `exec:${prefix}${remote}`, '-o', 'echo:127.0.0.1:0']);
  await near.waitForLine(NEAR_ESTABLISHED);
  return { near, farPid: () => Number(readFileSync(file, 'utf8')) };
}

const gone = (pid: number) => eventually(() => !isRunning(pid), { what: `the end of process ${pid}` });

test.serial('a vproxy started by exec: carries forwards, and is restarted when it is killed', async (t) => {
  const { near, farPid } = await startOverExec(t);
  const port = await near.listeningPort('echo');
  await checkEcho(t, port);
  const first = farPid();
  const from = near.lines.length;
  process.kill(first, 'SIGKILL');
  const { input } = await near.waitForLine(/exec:.*: killed by SIGKILL/, { from });
  await near.waitForLine(NEAR_ESTABLISHED, { from: near.lines.lastIndexOf(input) });
  const second = farPid();
  t.not(second, first, near.lines.join('\n'));
  await checkEcho(t, port);
  // Killing a vproxy also ends the one that it started.
  near.kill('SIGKILL');
  await near.exited;
  await gone(second);
});

test.serial('stdio: over pipes carries a session, and the remaining side sees its end', async (t) => {
  // The shell joins the two with pipes, as sshd may do.
  const { near, farPid } = await startOverExec(t, { prefix: 'cat | { ', far: '; } | cat' });
  await checkEcho(t, await near.listeningPort('echo'));
  const pid = farPid();
  t.is((await near.stop()).code, 0);
  await gone(pid);
  t.is(near.stdout, '');
});

/** The standard streams and further descriptors of a process: the channel where true. */
const INHERITED = {
  'fd:3': [false, false, true],
  'fd:0': [true, false, false],
  'stdio:': [true, true, false],
} as const;

/** A vproxy whose channel is a socket that a proxy of the test has accepted the other end of. */
async function startOnDescriptor(t: ExecutionContext, channel: keyof typeof INHERITED) {
  const path = join(temporaryFolder(t), 'channel.sock');
  const proxy = await startProxy(t, `unix-listen:${path}`, { outgoing: ['echo:0'] });
  const socket = connect(path).pause();
  await once(socket, 'connect');
  const server = await localServer(t, echo);
  const [input, output, more] = INHERITED[channel].map((isChannel) => (isChannel ? socket : 'ignore'));
  const args = [...PROGRAM, '-c', channel, '-i', `echo:127.0.0.1:${server.port}`];
  const child = spawn(process.execPath, args, { stdio: [input, output, 'pipe', more] });
  t.teardown(() => child.kill('SIGKILL'));
  socket.destroy();
  let log = '';
  child.stderr?.on('data', (text: Buffer) => (log += text.toString()));
  const closed = once(child, 'close') as Promise<[number | null]>;
  const ended = async () => ({ code: (await within(30_000, 'the end of vproxy', closed))[0], log });
  await proxy.event('session-established');
  // Each side notices by itself; one that is stopped before that has no peer to notify.
  await eventually(() => log.includes('session established'), { what: 'the session of the child' });
  return { proxy, ended, child };
}

for (const channel of ['fd:3', 'fd:0', 'stdio:'] as const) {
  test.serial(`${channel} over an inherited socket carries forwards, and the process exits with it`, async (t) => {
    const { proxy, ended } = await startOnDescriptor(t, channel);
    await checkEcho(t, proxy.port('echo'));
    await proxy.proxy.stop();
    const { code, log } = await ended();
    t.is(code, 0, log);
    t.regex(log, /was closed by the peer\n$/);
    t.notRegex(log, /error|internal/);
  });
}

test.serial('SIGTERM notifies the peer on an inherited channel, and closes it', async (t) => {
  const { proxy, ended, child } = await startOnDescriptor(t, 'stdio:');
  child.kill('SIGTERM');
  const { code, log } = await ended();
  t.is(code, 0, log);
  t.regex((await proxy.event('session-ended')).message, /\(shutdown\)/);
});

// The system's own ssh and sshd, joined without a port, with throw-away keys.

const SSHD = '/usr/sbin/sshd';

/**
 * The value of `PATH` for a process whose `ssh`, whatever host it names, reaches a server on this machine that admits this user.
 * The server lives as long as the connection.
 */
function sshSearchPath(t: ExecutionContext): string {
  // As root, sshd requires this folder, which its service creates.
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true });
  const folder = temporaryFolder(t);
  const file = (name: string) => join(folder, name);
  for (const key of ['host', 'user']) execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file(key)]);
  writeFileSync(file('known_hosts'), `server ${readFileSync(file('host.pub'), 'utf8')}`);
  writeFileSync(
    file('sshd_config'),
    [
      `HostKey ${file('host')}`,
      `AuthorizedKeysFile ${file('user.pub')}`,
      'StrictModes no',
      'UsePAM no',
      'PasswordAuthentication no',
      'PermitRootLogin yes',
    ].join('\n'),
  );
  writeFileSync(
    file('ssh_config'),
    [
      `ProxyCommand ${SSHD} -i -f ${file('sshd_config')} -E ${file('log')}`,
      `IdentityFile ${file('user')}`,
      'IdentitiesOnly yes',
      `UserKnownHostsFile ${file('known_hosts')}`,
      'HostKeyAlias server',
      'StrictHostKeyChecking yes',
    ].join('\n'),
  );
  mkdirSync(file('bin'));
  const ssh = execFileSync('sh', ['-c', 'command -v ssh'], { encoding: 'utf8' }).trim();
  writeFileSync(file('bin/ssh'), `#!/bin/sh\nexec ${ssh} -F ${file('ssh_config')} "$@"\n`, { mode: 0o755 });
  return `${file('bin')}:${process.env['PATH'] ?? ''}`;
}

/** The running process that another one started last. */
function newestChild(pid: number): number {
  const child = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').at(-1) ?? '';
  if (!/^\d+$/.test(child)) throw new Error(`process ${pid} has no children`);
  return Number(child);
}

testWith('sshd', 'socat')(
  'a session over ssh waits for its socket, survives the death of ssh and of its server, ends with its peer, and returns',
  async (t) => {
    // Except control characters and backslashes, which are refused.
    const path = join(temporaryFolder(t), `a b,c:d!!e'f"g(h[i{j)k]l}m$n;o&p*q?r~s%tü#u|v<w>x`);
    const target = await localServer(t, echo);
    const startFar = () =>
      startProxy(t, `unix-listen:${path.replaceAll(',', ',,')},resume=1m`, { incoming: [`echo:${target.port}`] });
    const uri = `ssh://host2${path.split('/').map(encodeURIComponent).join('/')}?frame=8192`;
    const near = spawnVproxy(t, ['-c', `vm1=${uri}`, '-o', 'echo:127.0.0.1:0'], { env: { PATH: sshSearchPath(t) } });
    await near.waitForLine(/: exited with status 1; retrying/);
    const far = await startFar();
    await near.waitForLine(ESTABLISHED);
    const port = await near.listeningPort('echo');
    await checkEcho(t, port);

    const open = await openEcho(t, port);
    for (const victimOf of [(ssh: number) => ssh, newestChild]) {
      process.kill(victimOf(newestChild(near.pid)), 'SIGKILL');
      await far.event('session-resumed', far.events.length);
      t.is(await answerTo(open, 'again'), 'again');
    }
    t.true(await endsInOrder(open));
    t.is(far.proxy.channel('default').history.sessions, 1);

    // The far end stops: ssh exits, and is restarted.
    const from = near.lines.length;
    await far.proxy.stop();
    await near.waitForLine(ENDED, { from });
    const again = await startFar();
    await near.waitForLine(ESTABLISHED, { from });
    await checkEcho(t, port);

    // This end stops: nothing is left at the far end that holds the socket.
    t.is((await near.stop()).code, 0);
    await again.event('session-ended');
    await eventually(() => again.proxy.channel('default').state === 'waiting');
  },
);
