/** Keys, the audit log, rules and `--once` at the real command line. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, cpSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import type { NetConnectOpts } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PROJECT_ROOT, temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { echo, failureOf, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { ESTABLISHED, runVproxy, spawnVproxy } from '../helpers/vproxy-process.js';

function setUp(t: ExecutionContext) {
  const folder = temporaryFolder(t);
  const key = (name: string, byte: string, mode?: number) => writeKeyFile(folder, name, byte, mode);
  return { folder, path: join(folder, 'channel.sock'), key };
}

async function ask(t: ExecutionContext, address: NetConnectOpts): Promise<string> {
  const socket = localSocket(t, address);
  const answer = readToEnd(socket);
  socket.end('!');
  return (await answer).toString();
}

test.serial('two processes with the same key file, of several: nothing shows the key', async (t) => {
  const { path, key } = setUp(t);
  const [own, other] = [key('own', '1f'), key('other', '2e')];
  const host = spawnVproxy(t, ['-vv', '-c', `unix-listen:${path},tls=psk`, '--key', own, '--key', other]);
  const guest = spawnVproxy(t, ['-vv', '-c', `unix-connect:${path},tls=psk`, '--key', other]);
  await guest.waitForLine(ESTABLISHED);
  await host.waitForLine(ESTABLISHED);
  const shown = await runVproxy(['--print-config', '-c', 'stdio:', '--key', own]);
  t.true(shown.stdout.includes(`keys = [ "${own}" ]`));
  const all = [...host.lines, ...guest.lines, shown.stdout, readFileSync(`/proc/${host.pid}/cmdline`, 'latin1')];
  for (const text of all) t.notRegex(text, /(1f){8}|(2e){8}/i);
});

test.serial('a key file that is not right ends vproxy with 65 and one line', async (t) => {
  const { folder, key } = setUp(t);
  const open = key('open', '1f', 0o640);
  for (const [file, says] of [
    [open, 'others can read or change it (mode 0640); chmod 600 it'],
    [join(folder, 'missing'), 'there is no such file or folder (ENOENT)'],
  ] as const) {
    const { code, stderr } = await runVproxy(['-c', 'unix-connect:/nonexistent', '--key', file]);
    t.is(code, 65);
    t.true(stderr.startsWith(`vproxy: error: ${file}: ${says}`), stderr);
    t.is(stderr.split('\n').length, 2);
  }
  const group = await runVproxy(['-c', 'unix-connect:/run/*.sock', '--key', open]);
  t.is(group.code, 65, 'also where no channel is there yet');
});

const RULES = [
  [0o440, /trying again/],
  [0o444, /others can read or change it/],
  [0o460, /others can read or change it/],
] as const;

// systemd gives such files to the user of a service.
serialTestWith('root')('who is not root may have a key of root that its group can read, and no more', async (t) => {
  const { folder, path, key } = setUp(t);
  const nobody = 65_534;
  chmodSync(folder, 0o755);
  // The project may lie where others cannot read it.
  const program = join(folder, 'program');
  cpSync(join(PROJECT_ROOT, 'dist/program'), program, { recursive: true });
  for (const [mode, says] of RULES) {
    const file = key('own', '1f', mode);
    chownSync(file, 0, nobody);
    const ids = [`--reuid=${nobody}`, `--regid=${nobody}`, '--clear-groups'];
    const command = [...ids, process.execPath, join(program, 'vproxy.cjs'), '--no-control'];
    const child = spawn('setpriv', [...command, '-c', `unix-connect:${path}`, '--key', file]);
    t.teardown(() => child.kill('SIGKILL'));
    const [said] = (await once(child.stderr, 'data')) as [Buffer];
    t.regex(said.toString(), says, mode.toString(8));
  }
});

test.serial('credentials of systemd are keys', async (t) => {
  const { folder, path, key } = setUp(t);
  key('vproxy.key', '1f');
  const env = { CREDENTIALS_DIRECTORY: folder };
  const host = spawnVproxy(t, ['-c', `unix-listen:${path}`], { env });
  spawnVproxy(t, ['-c', `unix-connect:${path}`, '--key', 'vproxy.key'], { env });
  await host.waitForLine(ESTABLISHED);
  const stranger = await runVproxy(['-c', `unix-connect:${path}`, '--once']);
  t.is(stranger.code, 77);
  t.regex(stranger.stderr, /warning: .*; give this side the peer's key with --key FILE \(auth-failed\)$/m);
  t.regex(stranger.stderr, /error: the session ended: the peer demands authentication .* \(auth-failed\)\n$/);
});

test.serial('SIGHUP reads keys again; a bad file is one line, and the old key stays', async (t) => {
  const { path, key } = setUp(t);
  const own = key('own', '1f');
  const host = spawnVproxy(t, ['-c', `unix-listen:${path}`, '--key', own]);
  const connect = async (file: string) => {
    const from = host.lines.length;
    const guest = spawnVproxy(t, ['-c', `unix-connect:${path}`, '--key', file]);
    await guest.waitForLine(ESTABLISHED);
    await host.waitForLine(ESTABLISHED, { from });
    guest.kill('SIGTERM');
    await guest.exited;
  };
  await host.waitForLine(/waiting for the peer/);
  writeFileSync(own, 'no key');
  host.kill('SIGHUP');
  const line = await host.waitForLine(/keys not reloaded/);
  t.is(line.input, `vproxy: error: keys not reloaded: ${own}: a key is 64 hex digits and a newline`);
  await connect(key('copy', '1f'));
  key('own', '2e');
  const logged = host.lines.length;
  host.kill('SIGHUP');
  await connect(key('copy', '2e'));
  t.false(host.lines.slice(logged).some((text) => text.includes('not reloaded')));
});

for (const [what, signal, code] of [
  ['in order', 'SIGTERM', 0],
  ['because the peer was killed', 'SIGKILL', 69],
] as const) {
  test.serial(`--once ends with the session that ended ${what}: status ${code}`, async (t) => {
    const { path } = setUp(t);
    const single = spawnVproxy(t, ['-c', `unix-connect:${path}`, '--once']);
    await single.waitForLine(/trying again/);
    const peer = spawnVproxy(t, ['-c', `unix-listen:${path}`]);
    await single.waitForLine(ESTABLISHED);
    // Before it has the answer to its HELLO it has no session to end.
    await peer.waitForLine(ESTABLISHED);
    peer.kill(signal);
    t.deepEqual(await single.exited, { code, signal: null });
    t.regex(
      single.lines.at(-1) ?? '',
      code === 0 ? /^vproxy: the session ended: / : /^vproxy: error: the session ended: /,
    );
  });
}

test.serial('--once at a channel that listens outlives strangers, and ends with its peer’s session', async (t) => {
  const { path, key } = setUp(t);
  const own = key('own', '1f');
  const single = spawnVproxy(t, ['-c', `unix-listen:${path}`, '--once', '--key', own]);
  await single.waitForLine(/waiting for the peer/);
  t.is((await runVproxy(['-c', `unix-connect:${path}`, '--once', '--key', key('other', '2e')])).code, 77);
  await single.waitForLine(/no key in common/);
  const peer = spawnVproxy(t, ['-c', `unix-connect:${path}`, '--key', own]);
  await single.waitForLine(ESTABLISHED);
  await peer.waitForLine(ESTABLISHED);
  t.is((await runVproxy(['-c', `unix-connect:${path}`, '--once'])).code, 77);
  peer.kill('SIGTERM');
  t.deepEqual(await single.exited, { code: 0, signal: null });
});

test.serial('--audit has who opened what; it is opened before anything listens, and again at SIGHUP', async (t) => {
  const { folder, path } = setUp(t);
  const audit = join(folder, 'audit.log');
  const events = (file: string) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => (JSON.parse(line) as { event: string }).event);
  const target = await localServer(t, echo);
  const host = spawnVproxy(t, [
    '-c',
    `unix-listen:${path}`,
    '-i',
    `echo:${target.port}`,
    '--audit',
    `${audit},rotate=1M`,
  ]);
  const guest = spawnVproxy(t, ['-c', `unix-connect:${path}`, '-o', `echo:${folder}/echo`]);
  await guest.waitForLine(ESTABLISHED);
  t.is(await ask(t, { path: join(folder, 'echo') }), '!');
  await eventually(() => events(audit).length === 3);
  t.deepEqual(events(audit), ['session-established', 'stream-opened', 'stream-closed']);
  t.is(statSync(audit).mode & 0o777, 0o600);
  renameSync(audit, `${audit}.old`);
  host.kill('SIGHUP');
  await eventually(async () => {
    await ask(t, { path: join(folder, 'echo') });
    return events(audit).includes('stream-closed');
  });
  host.kill('SIGTERM');
  await host.exited;
  t.is(events(audit).at(-1), 'session-ended');

  for (const place of [folder, '/nonexistent/audit.log']) {
    const refused = await runVproxy(['-c', `unix-listen:${path}`, '-o', `x:${folder}/x`, '--audit', place]);
    t.is(refused.code, 73);
    t.regex(refused.stderr, /^vproxy: error: --audit [^\n]*\n$/);
  }
});

test.serial('another rule in the file is in force after SIGHUP, in the same session', async (t) => {
  const { folder, path } = setUp(t);
  const config = join(folder, 'host.toml');
  const target = await localServer(t, echo);
  const write = (rule: string) =>
    writeFileSync(
      config,
      `[channels.vm1]\naddress = "unix-listen:${path}"\nincoming = ["echo:${target.port}"]\n[services.echo]\n${rule}\n`,
    );
  write('channels = ["vm2"]');
  const host = spawnVproxy(t, ['--config', config]);
  const guest = spawnVproxy(t, ['-c', `unix-connect:${path}`, '-o', 'echo:0']);
  await guest.waitForLine(ESTABLISHED);
  const address = { host: '127.0.0.1', port: await guest.listeningPort('echo') };
  t.is((await failureOf(localSocket(t, address))).code, 'ECONNRESET');
  await host.waitForLine(/vm1: a stream from .* to echo was denied: the channel may not open this service/);
  write('channels = ["vm1"]\nstreams = 1');
  host.kill('SIGHUP');
  await host.waitForLine(/reloaded: rules changed: vm1\/echo$/);
  t.is(await ask(t, address), '!');
  t.is(guest.lines.filter((line) => ESTABLISHED.test(line)).length, 1);
});
