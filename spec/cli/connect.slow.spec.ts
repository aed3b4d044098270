/** `vproxy connect`: standard input and output as a stream. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import type net from 'node:net';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { PROJECT_ROOT, staticImports, temporaryFolder } from '../helpers/files.js';
import { echo, localServer, steeredPair } from '../helpers/proxies.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually, ManualClock } from '../helpers/time.js';
import { runPiped } from '../helpers/vproxy-process.js';

const run = promisify(execFile);

/** A pair whose peer offers `x`, and the command that is joined to it. */
async function connected(t: ExecutionContext, handle: Parameters<typeof localServer>[1], word = 'x') {
  const target = await localServer(t, handle);
  const pair = await steeredPair(t, { peer: { incoming: [`x:127.0.0.1:${target.port}`] } });
  return { ...pair, command: runPiped(t, ['connect', word], pair.env) };
}

test.serial('every byte comes back, while both ways are in use', async (t) => {
  const { command } = await connected(t, echo, 'default/x');
  const bytes = randomBytes(8_000_000);
  command.child.stdin.end(bytes);
  t.true((await command.output).equals(bytes));
  t.deepEqual(await command.ended, { code: 0, stderr: '' });
});

test.serial('the end of the input is the end of that way alone', async (t) => {
  const { command } = await connected(t, (socket) => {
    let byteCount = 0;
    socket.on('data', (chunk: Buffer) => {
      byteCount += chunk.length;
    });
    socket.on('end', () => socket.end(`got ${byteCount}`));
  });
  command.child.stdin.end(Buffer.alloc(1_000_000));
  t.is((await command.output).toString(), 'got 1000000');
  t.deepEqual(await command.ended, { code: 0, stderr: '' });
});

test.serial('the end of the service is the end of the output, while the input goes on', async (t) => {
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
  t.deepEqual(await command.ended, { code: 0, stderr: '' });
});

test.serial('who does not read the output holds the service up, and not the input', async (t) => {
  let sentBytes = 0;
  let gotBytes = 0;
  const { command } = await connected(t, (socket) => {
    const chunk = Buffer.alloc(65_536);
    const more = (): void => {
      while (!socket.destroyed && sentBytes < 64e6) {
        sentBytes += chunk.length;
        if (!socket.write(chunk)) return;
      }
    };
    socket.on('drain', more).on('data', (bytes: Buffer) => {
      gotBytes += bytes.length;
    });
    more();
  });
  command.child.stdout.pause();
  command.child.stdin.write(Buffer.alloc(3_000_000));
  await eventually(() => gotBytes === 3_000_000);
  t.true(sentBytes < 64e6);
});

for (const hasEnded of [false, true]) {
  test.serial(`a reset ${hasEnded ? 'after' : 'before'} the end of the input is one line, and a status`, async (t) => {
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
    t.regex(stderr, /^vproxy: error: stream \d+ to x was reset: .*\(ECONNRESET\) \(local-error\).*\n$/);
  });
}

test.serial('a truncated answer is no success, however many streams were reset just before', async (t) => {
  const others = new Set<net.Socket>();
  let truncate = (): void => undefined;
  const target = await localServer(t, (socket) => {
    socket.once('data', (chunk: Buffer) => {
      if (chunk.toString() === 'other') others.add(socket);
    });
    socket.once('end', () => {
      socket.write('an answer of which the rest is mis');
      truncate = () => socket.resetAndDestroy();
    });
  });
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
  await eventually(() => others.size === 150);
  const command = runPiped(t, ['connect', 'x'], env);
  command.child.stdin.end();
  await once(command.child.stdout, 'data');
  for (const socket of others) socket.resetAndDestroy();
  await eventually(() => here.proxy.listStreams().length === 1);
  truncate();
  const { code, stderr } = await command.ended;
  t.is(code, 74);
  t.regex(stderr, /^vproxy: error: stream \d+ to x was reset: .*ECONNRESET.*\n$/);
});

test.serial('a service that is not there, and a reader that has gone', async (t) => {
  const { command, env } = await connected(t, echo);
  const refused = await runPiped(t, ['connect', 'nope'], env).ended;
  t.deepEqual(refused, { code: 69, stderr: 'vproxy: error: service nope is not offered; the peer offers: x\n' });
  command.child.stdout.destroy();
  await command.output.catch(() => undefined);
  command.child.stdin.write('x');
  t.deepEqual(await command.ended, { code: 0, stderr: '' });
});

serialTestWith('sshd')('ssh goes through it, with no port at all', async (t) => {
  const folder = temporaryFolder(t);
  for (const name of ['host', 'id'])
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, name)]);
  const lines = [
    `HostKey ${join(folder, 'host')}`,
    `AuthorizedKeysFile ${join(folder, 'id.pub')}`,
    'StrictModes no',
    'UsePAM no',
    'PidFile none',
  ];
  writeFileSync(join(folder, 'sshd_config'), `${lines.join('\n')}\n`);
  // The folder that packages of ssh servers create when the machine starts.
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true });
  const sshd = `exec:/usr/sbin/sshd -i -f ${join(folder, 'sshd_config')}`;
  const { env } = await steeredPair(t, { peer: { incoming: [`ssh:${sshd}`] } });
  const vproxy = `${process.execPath} ${join(PROJECT_ROOT, 'dist/program/vproxy.cjs')}`;
  const options = [
    `ProxyCommand=${vproxy} connect ssh`,
    'IdentitiesOnly=yes',
    'StrictHostKeyChecking=no',
    `UserKnownHostsFile=${join(folder, 'known')}`,
    'BatchMode=yes',
  ].flatMap((option) => ['-o', option]);
  const words = ['-F', 'none', '-i', join(folder, 'id'), ...options, 'vm1', 'head -c 300000 /dev/zero; echo done >&2'];
  const settings = { env: { ...process.env, ...env }, maxBuffer: 2 ** 20, timeout: 30_000 };
  const { stdout, stderr } = await run('ssh', words, settings);
  t.is(stdout.length, 300_000);
  t.regex(stderr, /done/);
});

test('it loads neither the parser of the command line, nor HTTP, nor anything of the proxy', (t) => {
  const files = ['cli/vproxy.js', 'cli/command/run-command.js', 'cli/commands/connect.js'];
  const loaded = staticImports(files.map((file) => join(PROJECT_ROOT, 'dist', file)));
  const folders = new Set(
    [...loaded].map((name) => (name.startsWith('/') ? dirname(name).replace(/.*\/dist\//, '') : name)),
  );
  t.deepEqual([...folders].filter((name) => !name.startsWith('node:')).sort(), [
    'cli',
    'cli/command',
    'cli/commands',
    'lib',
    'lib/control',
    'lib/control/client',
    'lib/system/sockets',
    'lib/util',
  ]);
  t.false(folders.has('node:http'));
});

test('the client loads HTTP, and nothing of the proxy', (t) => {
  const loaded = staticImports([join(PROJECT_ROOT, 'dist/lib/control/client/client.js')]);
  const strangers = [...loaded].filter(
    (name) =>
      !/^node:|\/dist\/lib\/(control\/|exec\/|codec\/(json|limits)|system\/sockets|util\/|errors\.js)/.test(name),
  );
  t.deepEqual(strangers, []);
});
