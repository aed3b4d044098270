/** `vproxy` as a running process: its log, its exit, its keys and its audit log. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, cpSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { REMEDIES } from '../../lib/remedies.js';
import { PROJECT_ROOT, temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { processPair } from '../helpers/process-pair.js';
import { ask, echo, localServer } from '../helpers/proxies.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually, within } from '../helpers/time.js';
import { ENDED, ESTABLISHED, runVproxy, spawnVproxy } from '../helpers/vproxy-process.js';

test.serial('the beginning and end of a session are logged; signals end a process with status 0', async (t) => {
  const { host, guest } = await processPair(t, { guest: ['--name', 'vm\u001b1'] });
  const line = host.lines.find((text) => ESTABLISHED.test(text)) ?? '';
  t.regex(line, /vproxy: .*vm\\x1b1, vproxy \d+\.\d+\.\d+ .*on unix-listen:\//);
  guest.kill('SIGTERM');
  t.deepEqual(await guest.exited, { code: 0, signal: null });
  t.regex((await host.waitForLine(ENDED)).input, /\(shutdown\)$/);
  t.is(host.stdout + guest.stdout, '');
  // The same while it waits for its channel.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const waiting = spawnVproxy(t, ['-c', `unix-connect:${join(temporaryFolder(t), 'missing.sock')}`]);
    await waiting.waitForLine(/missing\.sock/);
    waiting.kill(signal);
    t.deepEqual(await waiting.exited, { code: 0, signal: null });
    t.is(waiting.lines.length, 1);
  }
});

test.serial('a signal or a defect ends a process while a file system hangs, without koffi by SIGKILL', async (t) => {
  const folder = temporaryFolder(t);
  const [fifo, hang] = [join(folder, 'fifo'), join(folder, 'hang.mjs')];
  execFileSync('mkfifo', [fifo]);
  // Longer than a FIFO without a reader takes.
  const call = `write(openSync(${JSON.stringify(fifo)}, 'r+'), Buffer.alloc(1_000_000), () => undefined);`;
  for (const [more, by, end] of [
    ['', 'SIGTERM', { code: 0, signal: null }],
    ['process.dlopen = null;', 'SIGTERM', { code: null, signal: 'SIGKILL' }],
    ['process.on("SIGUSR2", () => { throw new Error(); });', 'SIGUSR2', { code: 70, signal: null }],
  ] as const) {
    writeFileSync(hang, `import { openSync, write } from 'node:fs';\n${call}\n${more}\n`);
    const env = { NODE_OPTIONS: `--import=${hang}` };
    const vproxy = spawnVproxy(t, ['-c', `unix-connect:${join(folder, 'missing.sock')}`], { env });
    await vproxy.waitForLine(/missing\.sock/);
    vproxy.kill(by);
    t.deepEqual(await within(10_000, 'the end', vproxy.exited), end);
  }
});

test.serial('SIGHUP retries at once, and ends nothing', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const attempts: number[] = [];
  const refuse = (socket: { destroy(): void }): void => {
    attempts.push(performance.now());
    socket.destroy();
  };
  const server = await localServer(t, refuse, { path });
  const lastPauseMs = () => (attempts.at(-1) ?? 0) - (attempts.at(-2) ?? attempts.at(-1) ?? 0);
  const vproxy = spawnVproxy(t, ['-c', `unix-connect:${path}`]);
  const before = await eventually(() => lastPauseMs() > 1200 && lastPauseMs(), { what: 'a long pause' });
  vproxy.kill('SIGHUP');
  await once(server, 'connection');
  // Otherwise each pause is longer than the previous one.
  t.true(lastPauseMs() < before, `${lastPauseMs()} ms`);
  t.is((await vproxy.stop()).code, 0);
});

test.serial('-q logs only warnings, -v streams, -vv their details too; DEBUG shows them beside the log', async (t) => {
  const target = await localServer(t, echo);
  const channel = join(temporaryFolder(t), 'channel.sock');
  const host = spawnVproxy(t, ['-c', `unix-listen:${channel}`, '-o', 'echo:127.0.0.1:0', '-vv']);
  const port = await host.listeningPort('echo');
  for (const [args, env, pattern] of [
    [['-q'], {}, null],
    [['-v'], {}, /^vproxy: debug: stream \d+ .* is open$/],
    [['-vv'], {}, /^vproxy: debug: stream \d+ .* is open \(.*service="echo"/],
    [[], { DEBUG: 'vproxy:stream' }, /vproxy:stream .*stream \d+ .* is open/],
  ] as const) {
    const from = host.lines.length;
    const words = ['-c', `unix-connect:${channel}`, '-i', `echo:127.0.0.1:${target.port}`, ...args];
    const guest = spawnVproxy(t, words, { env });
    await host.waitForLine(ESTABLISHED, { from });
    // The peer's list of services comes after the session.
    await host.waitForLine(/the peer offers: echo/, { from });
    t.is(await ask(t, port), 'hello');
    if (pattern === null) t.deepEqual(guest.lines, []);
    else await guest.waitForLine(pattern);
    t.is((await guest.stop()).code, 0);
  }
});

test.serial('fatal errors end it with a status each, and one line, also in JSON', async (t) => {
  const folder = temporaryFolder(t);
  const [file, locked, open] = [
    join(folder, 'file'),
    join(folder, 'locked.sock'),
    writeKeyFile(folder, 'open', '1f', 0o640),
  ];
  writeFileSync(file, '');
  const taken = await localServer(t, echo);
  await localServer(t, echo, { path: locked });
  chmodSync(locked, 0);
  const [channel, group] = [`unix-listen:${folder}/channel.sock`, `unix-connect:${folder}/*.none`];
  const mode = `${open}: accessible to other users (mode 0640); ${REMEDIES['secret-file']['bad-file']}`;
  for (const [words, code, says] of [
    [['-c', channel, '-o', `ssh:127.0.0.1:${taken.port}`], 69, `127.0.0.1:${taken.port}`],
    [['-c', `unix-connect:${file}`], 74, file],
    [['-c', 'virtserial-open:/dev/null'], 74, '/dev/null'],
    [['-c', `unix-connect:${locked}`], 77, locked],
    [['-c', channel, '--key', open], 65, mode],
    [['-c', channel, '--key', join(folder, 'none')], 65, `${folder}/none: no such file or directory (ENOENT)`],
    // Even if no channel is open yet.
    [['-c', group, '--key', open], 65, mode],
    // Before anything listens.
    [['-c', channel, '-o', `x:${folder}/x`, '--audit', folder], 73, '--audit '],
    [['-c', channel, '-o', `x:${folder}/x`, '--audit', '/nonexistent/audit.log'], 73, '--audit '],
  ] as const) {
    const run = await runVproxy(words, { obeysPermissions: true });
    t.deepEqual([run.code, run.stdout], [code, ''], run.stderr);
    const last = run.stderr.trimEnd().split('\n').at(-1) ?? '';
    t.true(last.startsWith('vproxy: error: ') && last.includes(says), last);
  }
  const { code, stderr } = await runVproxy(['-c', `unix-connect:${file}`, '--log-format', 'json']);
  t.is(code, 74);
  const event = { level: 'error', event: 'failed', fields: { code: 'channel-unusable' } };
  t.like(JSON.parse(stderr.trim().split('\n').at(-1) ?? ''), event);
});

test.serial('a defect ends it with 70 and one line, and with -v its stack', async (t) => {
  const throwing = 'process.on("SIGUSR2", () => { throw new Error("two\\nlines"); });';
  const env = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(throwing)}` };
  const missing = `unix-connect:${join(temporaryFolder(t), 'missing.sock')}`;
  for (const flags of [[], ['-v']]) {
    const vproxy = spawnVproxy(t, ['-c', missing, ...flags], { env });
    await vproxy.waitForLine(/missing\.sock/);
    vproxy.kill('SIGUSR2');
    t.is((await vproxy.exited).code, 70);
    const at = vproxy.lines.indexOf('vproxy: error: internal: two\\nlines');
    t.not(at, -1, vproxy.lines.join('\n'));
    const hasStack = vproxy.lines.slice(at + 1).some((line) => /^ +at /.test(line));
    t.is(hasStack, flags.length > 0);
  }
});

function keyed(t: ExecutionContext) {
  const folder = temporaryFolder(t);
  const key = (name: string, byte: string, mode?: number) => writeKeyFile(folder, name, byte, mode);
  return { folder, path: join(folder, 'channel.sock'), key };
}

// systemd passes such files to the user of a service.
serialTestWith('root')('a user other than root may use a key of root that its group can read', async (t) => {
  const { folder, path, key } = keyed(t);
  const nobody = 65_534;
  chmodSync(folder, 0o755);
  // Other users may not be able to read the project's folder.
  const program = join(folder, 'program');
  cpSync(join(PROJECT_ROOT, 'dist/program'), program, { recursive: true });
  const ids = [`--reuid=${nobody}`, `--regid=${nobody}`, '--clear-groups'];
  for (const [mode, says] of [
    [0o440, /retrying/],
    [0o444, /accessible to other users/],
    [0o460, /accessible to other users/],
  ] as const) {
    const file = key('own', '1f', mode);
    chownSync(file, 0, nobody);
    const command = [process.execPath, join(program, 'vproxy.cjs'), '--no-control', '-c', `unix-connect:${path}`];
    const child = spawn('setpriv', [...ids, ...command, '--key', file]);
    t.teardown(() => child.kill('SIGKILL'));
    const [said] = (await once(child.stderr, 'data')) as [Buffer];
    t.regex(said.toString(), says, mode.toString(8));
  }
});

test.serial('credentials of systemd are keys', async (t) => {
  const { folder, path, key } = keyed(t);
  key('vproxy.key', '1f');
  const env = { CREDENTIALS_DIRECTORY: folder };
  const host = spawnVproxy(t, ['-c', `unix-listen:${path}`], { env });
  spawnVproxy(t, ['-c', `unix-connect:${path}`, '--key', 'vproxy.key'], { env });
  await host.waitForLine(ESTABLISHED);
  const stranger = await runVproxy(['-c', `unix-connect:${path}`, '--once']);
  t.is(stranger.code, 77);
  t.regex(stranger.stderr, /warning: .*; give this side the peer's key with --key FILE \(auth-failed\)$/m);
  t.regex(stranger.stderr, /error: the session ended: the peer requires authentication, .* \(auth-failed\)\n$/);
});

test.serial('SIGHUP reloads keys; a bad file is one line, and the old key stays', async (t) => {
  const { path, key } = keyed(t);
  const own = key('own', '1f');
  const host = spawnVproxy(t, ['-c', `unix-listen:${path}`, '--key', own]);
  const connect = async (file: string) => {
    const from = host.lines.length;
    const guest = spawnVproxy(t, ['-c', `unix-connect:${path}`, '--key', file]);
    await guest.waitForLine(ESTABLISHED);
    await host.waitForLine(ESTABLISHED, { from });
    await guest.stop();
  };
  await host.waitForLine(/waiting for the peer/);
  writeFileSync(own, 'no key');
  host.kill('SIGHUP');
  const line = await host.waitForLine(/keys not reloaded/);
  t.is(
    line.input,
    `vproxy: error: keys not reloaded: ${own}: not a key: 6 bytes instead of 64 hex digits and a newline; ${REMEDIES['key-file']['bad-file']}`,
  );
  await connect(key('copy', '1f'));
  key('own', '2e');
  host.kill('SIGHUP');
  await connect(key('copy', '2e'));
  t.is(host.lines.filter((text) => text.includes('not reloaded')).length, 1);
});

test.serial('--once ignores strangers, and exits with the session of its peer, with its status', async (t) => {
  const { path, key } = keyed(t);
  const own = key('own', '1f');
  for (const [signal, code, says] of [
    ['SIGTERM', 0, /^vproxy: the session ended: /],
    ['SIGKILL', 69, /^vproxy: error: the session ended: /],
  ] as const) {
    const single = spawnVproxy(t, ['-c', `unix-listen:${path}`, '--once', '--key', own]);
    await single.waitForLine(/waiting for the peer/);
    for (const other of [['--key', key('other', '2e')], []]) {
      t.is((await runVproxy(['-c', `unix-connect:${path}`, '--once', ...other])).code, 77);
    }
    await single.waitForLine(/no key in common/);
    const peer = spawnVproxy(t, ['-c', `unix-connect:${path}`, '--key', own]);
    // Before the answer to its HELLO there is no session to end.
    await Promise.all([single, peer].map((side) => side.waitForLine(ESTABLISHED)));
    t.is((await runVproxy(['-c', `unix-connect:${path}`, '--once'])).code, 77);
    peer.kill(signal);
    t.deepEqual(await single.exited, { code, signal: null });
    t.regex(single.lines.at(-1) ?? '', says);
  }
});

test.serial('--audit records who opened what, and is reopened at SIGHUP', async (t) => {
  const folder = temporaryFolder(t);
  const audit = join(folder, 'audit.log');
  const events = () => [...readFileSync(audit, 'utf8').matchAll(/"event":"([a-z-]+)"/g)].map(([, event]) => event);
  const target = await localServer(t, echo);
  const { host } = await processPair(t, {
    host: ['-i', `echo:${target.port}`, '--audit', `${audit},rotate=1M`],
    guest: ['-o', `echo:${folder}/echo`],
  });
  t.is(await ask(t, join(folder, 'echo')), 'hello');
  await eventually(() => events().length === 3);
  t.deepEqual(events(), ['session-established', 'stream-opened', 'stream-closed']);
  t.is(statSync(audit).mode & 0o777, 0o600);
  renameSync(audit, `${audit}.old`);
  host.kill('SIGHUP');
  await eventually(async () => {
    await ask(t, join(folder, 'echo'));
    return events().includes('stream-closed');
  });
  host.kill('SIGTERM');
  await host.exited;
  t.is(events().at(-1), 'session-ended');
});
