/** `vproxy connect`: standard input and output as a stream. */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, constants, mkdirSync, openSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { dirname, join } from 'node:path';
import { PassThrough } from 'node:stream';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { PROJECT_ROOT, staticImports, temporaryFolder } from '../helpers/files.js';
import { echo, localServer, steeredPair } from '../helpers/proxies.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually, ManualClock } from '../helpers/time.js';
import { roomOfDescriptor } from '../helpers/unix-pair.js';
import { runPiped, VPROXY } from '../helpers/vproxy-process.js';

const run = promisify(execFile);

/** A pair whose peer offers `x`, and the command connected to it. */
async function connected(t: ExecutionContext, handle: Parameters<typeof localServer>[1], word = 'x') {
  const target = await localServer(t, handle);
  const pair = await steeredPair(t, { peer: { incoming: [`x:127.0.0.1:${target.port}`] } });
  return { ...pair, command: runPiped(t, ['connect', word], pair.env) };
}

const SUCCESS = { code: 0, stderr: '' };

test.serial('every byte is echoed, with both directions in use', async (t) => {
  const { command } = await connected(t, echo, 'default/x');
  const bytes = randomBytes(8_000_000);
  command.child.stdin.end(bytes);
  t.true((await command.output).equals(bytes));
  t.deepEqual(await command.ended, SUCCESS);
});

test.serial('EOF of the service closes the output, while the input continues', async (t) => {
  let got = '';
  const { command } = await connected(t, (socket) => {
    socket.end('bye');
    socket.on('data', (chunk: Buffer) => {
      got += chunk.toString();
    });
    socket.on('end', () => socket.destroy());
  });
  t.is((await command.output).toString(), 'bye');
  t.is(command.child.exitCode, null);
  command.child.stdin.write('more');
  await eventually(() => got === 'more');
  command.child.stdin.end();
  t.deepEqual(await command.ended, SUCCESS);
});

test.serial('a reader that does not read the output blocks the service, but not the input', async (t) => {
  let gotBytes = 0;
  const answer = new PassThrough();
  const { command } = await connected(t, (socket) => {
    answer.pipe(socket).on('data', (bytes: Buffer) => {
      gotBytes += bytes.length;
    });
  });
  command.child.stdout.pause();
  answer.end(Buffer.alloc(64e6));
  command.child.stdin.write(Buffer.alloc(3_000_000));
  await eventually(() => gotBytes === 3_000_000);
  t.false(command.child.stdout.readableEnded);
  command.child.kill('SIGKILL');
});

for (const [bytes, wanted] of [
  [64e6, 262_144],
  [8e6, 65_536],
] as const) {
  test.serial(`after ${bytes / 1e6} MB a pipe holds ${wanted} bytes, and every byte came through it`, async (t) => {
    const sent = Buffer.alloc(bytes, 'x');
    const target = await localServer(t, (socket) => socket.end(sent));
    const { env } = await steeredPair(t, { peer: { incoming: [`x:127.0.0.1:${target.port}`] } });
    const path = join(temporaryFolder(t), 'pipe');
    execFileSync('mkfifo', [path]);
    const output = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    t.teardown(() => closeSync(output));
    const reader = new net.Socket({ fd: openSync(path, constants.O_RDONLY | constants.O_NONBLOCK), writable: false });
    let gotBytes = 0;
    reader.on('data', (chunk: Buffer) => {
      if (chunk.equals(sent.subarray(0, chunk.length))) gotBytes += chunk.length;
    });
    const words = [join(PROJECT_ROOT, 'dist/program/vproxy.cjs'), 'connect', 'x'];
    const child = spawn(process.execPath, words, {
      stdio: ['ignore', output, 'inherit'],
      env: { ...process.env, ...env },
    });
    t.teardown(() => child.kill('SIGKILL'));
    t.deepEqual(await once(child, 'exit'), [0, null]);
    await eventually(() => gotBytes === bytes);
    reader.destroy();
    t.is(roomOfDescriptor(output), wanted);
  });
}

const RESET = /^vproxy: error: stream \d+ to x was reset: .*\(ECONNRESET\) \(local-error\).*\n$/;

for (const hasEnded of [false, true]) {
  test.serial(`a reset ${hasEnded ? 'after' : 'before'} EOF of the input is one line, and a status`, async (t) => {
    const { command } = await connected(t, (socket) => {
      socket.write('x');
      const reset = () => socket.resetAndDestroy();
      if (hasEnded) socket.resume().once('end', reset);
      else socket.once('data', reset);
    });
    if (hasEnded) command.child.stdin.end();
    else command.child.stdin.write('now');
    const { code, stderr } = await command.ended;
    t.is(code, 74);
    t.regex(stderr, RESET);
  });
}

test.serial('a truncated answer is a failure, however many streams were reset just before', async (t) => {
  const others: net.Socket[] = [];
  const target = await localServer(t, (socket) => {
    socket.once('data', () => others.push(socket));
    socket.once('end', () => {
      for (const other of others) other.resetAndDestroy();
      socket.write('an answer of which the rest is mis');
      truncate = () => socket.resetAndDestroy();
    });
  });
  let truncate = (): void => undefined;
  // While the clock does not advance, the log has room for no more lines of that kind.
  const { client, here, env } = await steeredPair(t, {
    here: { clock: new ManualClock() },
    peer: { incoming: [`x:127.0.0.1:${target.port}`] },
  });
  for (let count = 0; count < 150; count += 1) {
    const stream = await client.connect('x');
    t.teardown(() => stream.destroy());
    stream.on('error', () => undefined).write('other');
  }
  await eventually(() => others.length === 150);
  const command = runPiped(t, ['connect', 'x'], env);
  command.child.stdin.end();
  await once(command.child.stdout, 'data');
  await eventually(() => here.proxy.listStreams().length === 1);
  truncate();
  const { code, stderr } = await command.ended;
  t.is(code, 74);
  t.regex(stderr, RESET);
});

test.serial('what comes in one chunk with the answer is the first of the output', async (t) => {
  const path = join(temporaryFolder(t), 'control.sock');
  const head = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: vproxy-stream\r\nVproxy-End: /v1/connect/1\r\n\r\n';
  const end = 'HTTP/1.1 200 OK\r\n\r\n{"state":"ended","error":null}';
  await localServer(
    t,
    (socket) => {
      socket.once('data', (request) => socket.end(String(request).includes('/v1/connect/1') ? end : `${head}hello`));
    },
    { path },
  );
  const command = runPiped(t, ['connect', 'x', '--socket', path], {});
  command.child.stdin.end();
  t.is(String(await command.output), 'hello');
  t.deepEqual(await command.ended, SUCCESS);
});

test.serial('an unknown service, and a reader that has closed', async (t) => {
  const { command, env } = await connected(t, echo);
  const refused = await runPiped(t, ['connect', 'nope'], env).ended;
  t.deepEqual(refused, { code: 69, stderr: 'vproxy: error: service nope is not offered; the peer offers: x\n' });
  command.child.stdout.destroy();
  await command.output.catch(() => undefined);
  command.child.stdin.write('x');
  t.deepEqual(await command.ended, SUCCESS);
});

serialTestWith('sshd')('ssh works over it, without any port', async (t) => {
  const folder = temporaryFolder(t);
  for (const name of ['host', 'id']) await run('ssh-keygen', ['-qt', 'ed25519', '-N', '', '-f', join(folder, name)]);
  const settings = ['StrictModes no', 'UsePAM no', 'PidFile none', `AuthorizedKeysFile ${join(folder, 'id.pub')}`];
  writeFileSync(join(folder, 'sshd_config'), [`HostKey ${join(folder, 'host')}`, ...settings, ''].join('\n'));
  // The folder that packages of ssh servers create at boot.
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true });
  const sshd = `exec:/usr/sbin/sshd -i -f ${join(folder, 'sshd_config')}`;
  const { env } = await steeredPair(t, { peer: { incoming: [`ssh:${sshd}`] } });
  const options = [
    ...[`ProxyCommand=${VPROXY} connect ssh`, 'IdentitiesOnly=yes', 'StrictHostKeyChecking=no', 'BatchMode=yes'],
    `UserKnownHostsFile=${join(folder, 'known')}`,
  ].flatMap((option) => ['-o', option]);
  const words = ['-F', 'none', '-i', join(folder, 'id'), ...options, 'vm1', 'head -c 300000 /dev/zero; echo done >&2'];
  const limits = { maxBuffer: 2 ** 20, timeout: 30_000 };
  const { stdout, stderr } = await run('ssh', words, { env: { ...process.env, ...env }, ...limits });
  t.is(stdout.length, 300_000);
  t.regex(stderr, /done/);
});

test('it loads neither yargs, nor HTTP, nor any part of the proxy', (t) => {
  const files = ['cli/vproxy.js', 'cli/command/run-command.js', 'cli/commands/connect.js'];
  const loaded = [...staticImports(files.map((file) => join(PROJECT_ROOT, 'dist', file)))];
  const folders = loaded.filter((name) => name.startsWith('/')).map((name) => dirname(name).replace(/.*\/dist\//, ''));
  const client = ['lib', 'lib/control', 'lib/control/client', 'lib/system/sockets', 'lib/util'];
  t.deepEqual([...new Set(folders)].sort(), ['cli', 'cli/command', 'cli/commands', ...client]);
  t.false(loaded.includes('node:http'));
});

test('the client loads HTTP, but no part of the proxy', (t) => {
  const ours =
    /^node:|\/dist\/lib\/(control\/|services\/(exec\/|record-flow)|codec\/(json|limits)|system\/sockets|util\/|(system-)?errors\.js)/;
  const loaded = staticImports([join(PROJECT_ROOT, 'dist/lib/control/client/client.js')]);
  const others = [...loaded].filter((name) => !ours.test(name));
  t.deepEqual(others, []);
});
