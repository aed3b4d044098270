/** `vproxy` as a running process: what it logs, how it ends, and a forward from end to end. */
import { once } from 'node:events';
import { chmodSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { echo, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { eventually, within } from '../helpers/time.js';
import { ENDED, ESTABLISHED, runVproxy, spawnVproxy, type VproxyProcess } from '../helpers/vproxy-process.js';

/** A host and a guest on a unix channel, established. */
async function startPair(
  t: ExecutionContext,
  { host = [], guest = [] }: { host?: readonly string[]; guest?: readonly string[] },
): Promise<{ host: VproxyProcess; guest: VproxyProcess }> {
  const channel = join(temporaryFolder(t), 'channel.sock');
  const pair = {
    host: spawnVproxy(t, ['-c', `unix-listen:${channel}`, ...host]),
    guest: spawnVproxy(t, ['-c', `unix-connect:${channel}`, ...guest]),
  };
  await pair.host.waitForLine(ESTABLISHED_ANYHOW);
  await pair.guest.waitForLine(ESTABLISHED_ANYHOW);
  return pair;
}

const ESTABLISHED_ANYHOW = new RegExp(`${ESTABLISHED.source}|"session-established"`);

test.serial(
  'a session is logged when it is established and when it ends, and SIGTERM ends a process within a second',
  async (t) => {
    const { host, guest } = await startPair(t, { guest: ['--name', 'vm\u001b1'] });
    const line = host.lines.find((text) => ESTABLISHED.test(text)) ?? '';
    t.regex(line, /vproxy: .*vm\\x1b1, vproxy \d+\.\d+\.\d+ .*on unix-listen:\//);
    const began = performance.now();
    guest.kill('SIGTERM');
    t.deepEqual(await guest.exited, { code: 0, signal: null });
    t.true(performance.now() - began < 1000);
    t.regex((await host.waitForLine(ENDED)).input, /\(shutdown\)$/);
    t.is(host.stdout + guest.stdout, '');
  },
);

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test.serial(`${signal} ends a process that waits for its channel, with status 0`, async (t) => {
    const vproxy = spawnVproxy(t, ['-c', `unix-connect:${join(temporaryFolder(t), 'missing.sock')}`]);
    await vproxy.waitForLine(/missing\.sock/);
    vproxy.kill(signal);
    t.deepEqual(await within(1000, signal, vproxy.exited), { code: 0, signal: null });
    t.is(vproxy.lines.length, 1);
  });
}

test.serial('SIGHUP makes the next attempt now, and ends nothing', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const attempts: number[] = [];
  const server = await localServer(
    t,
    (socket) => {
      attempts.push(performance.now());
      socket.destroy();
    },
    { path },
  );
  const lastPauseMs = () => (attempts.at(-1) ?? 0) - (attempts.at(-2) ?? attempts.at(-1) ?? 0);
  const vproxy = spawnVproxy(t, ['-c', `unix-connect:${path}`]);
  await eventually(() => lastPauseMs() > 1200, { what: 'a long pause between two attempts' });
  vproxy.kill('SIGHUP');
  await once(server, 'connection');
  t.true(lastPauseMs() < 1000, `${lastPauseMs()} ms`);
  t.is((await vproxy.stop()).code, 0);
});

test.serial('a forward carries bytes both ways, and the end of one direction before the other', async (t) => {
  const target = await localServer(t, echo);
  const { host } = await startPair(t, {
    host: ['-o', 'echo:127.0.0.1:0'],
    guest: ['-i', `echo:127.0.0.1:${target.port}`],
  });
  const socket = localSocket(t, { host: '127.0.0.1', port: await host.listeningPort('echo') });
  const answer = readToEnd(socket);
  socket.end(Buffer.alloc(1_000_000, 'vproxy'));
  t.deepEqual(await answer, Buffer.alloc(1_000_000, 'vproxy'));
});

test.serial('with --log-format json every line is an object with time, level, event, message and fields', async (t) => {
  const { host, guest } = await startPair(t, { host: ['--log-format', 'json', '-v', '-o', 'x:127.0.0.1:0'] });
  guest.kill('SIGTERM');
  await host.waitForLine(/"session-ended"/);
  const events = host.lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  for (const event of events) {
    t.deepEqual(Object.keys(event), ['time', 'level', 'event', 'message', 'fields']);
    t.regex(String(event['time']), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  }
  const names = events.map(({ event }) => event);
  for (const name of ['listening', 'session-established', 'session-ended']) t.true(names.includes(name), name);
});

test.serial('-q logs no news, -v logs streams, -vv their facts too, and DEBUG shows them beside the log', async (t) => {
  const target = await localServer(t, echo);
  const channel = join(temporaryFolder(t), 'channel.sock');
  const forward = ['-i', `echo:127.0.0.1:${target.port}`];
  const host = spawnVproxy(t, ['-c', `unix-listen:${channel}`, '-o', 'echo:127.0.0.1:0', '-vv']);
  const port = await host.listeningPort('echo');
  for (const [args, env, pattern] of [
    [['-q'], {}, null],
    [['-v'], {}, /^vproxy: debug: stream \d+ .* is open$/],
    [['-vv'], {}, /^vproxy: debug: stream \d+ .* is open \(.*service="echo"/],
    [[], { DEBUG: 'vproxy:stream' }, /vproxy:stream .*stream \d+ .* is open/],
  ] as const) {
    const from = host.lines.length;
    const guest = spawnVproxy(t, ['-c', `unix-connect:${channel}`, ...forward, ...args], { env });
    await host.waitForLine(ESTABLISHED, { from });
    // The peer's list of services comes after the session.
    await host.waitForLine(/the peer offers: echo/, { from });
    const socket = localSocket(t, { host: '127.0.0.1', port });
    const answer = readToEnd(socket);
    socket.end('ping');
    t.is((await answer).toString(), 'ping');
    if (pattern === null) t.deepEqual(guest.lines, []);
    else await guest.waitForLine(pattern);
    t.is((await guest.stop()).code, 0);
  }
});

test.serial('a port that is taken ends it with 69 and one line', async (t) => {
  const taken = await localServer(t, echo);
  const channel = `unix-listen:${join(temporaryFolder(t), 'channel.sock')}`;
  const { code, stdout, stderr } = await runVproxy(['-c', channel, '-o', `ssh:127.0.0.1:${taken.port}`]);
  t.is(code, 69);
  t.regex(stderr, new RegExp(`^vproxy: error: [^\n]*127\\.0\\.0\\.1:${taken.port}[^\n]*\n$`));
  t.is(stdout, '');
});

test.serial('a path that can never be a channel ends it with 74, also in JSON', async (t) => {
  const path = join(temporaryFolder(t), 'file');
  writeFileSync(path, '');
  for (const channel of [`unix-connect:${path}`, 'virtserial-open:/dev/null']) {
    const text = await runVproxy(['-c', channel]);
    t.is(text.code, 74, text.stderr);
    t.regex(text.stderr, /^vproxy: error: [^\n]+\n$/m);
  }
  const json = await runVproxy(['-c', `unix-connect:${path}`, '--log-format', 'json']);
  t.is(json.code, 74);
  t.like(JSON.parse(json.stderr.trim().split('\n').at(-1) ?? ''), {
    level: 'error',
    event: 'failed',
    fields: { code: 'channel-unusable' },
  });
});

test.serial('a channel that the permissions keep away ends it with 77', async (t) => {
  const path = join(temporaryFolder(t), 'locked.sock');
  const server = createServer().listen(path);
  t.teardown(() => server.close());
  await once(server, 'listening');
  chmodSync(path, 0);
  const { code, stderr } = await runVproxy(['-c', `unix-connect:${path}`], { obeysPermissions: true });
  t.is(code, 77, stderr);
  t.regex(stderr, /^vproxy: error: [^\n]*locked\.sock[^\n]*\n$/m);
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
    t.is(
      vproxy.lines.slice(at + 1).some((line) => /^ +at /.test(line)),
      flags.length > 0,
    );
  }
});

test.serial('a local connection waits for a session as long as --wait says', async (t) => {
  const target = await localServer(t, echo);
  const channel = join(temporaryFolder(t), 'channel.sock');
  const host = spawnVproxy(t, ['-c', `unix-listen:${channel}`, '-o', 'echo:127.0.0.1:0', '--wait', '0']);
  const port = await host.listeningPort('echo');
  const early = connect({ host: '127.0.0.1', port });
  t.teardown(() => early.destroy());
  await within(5000, 'the reset', t.throwsAsync(once(early, 'end'), { code: 'ECONNRESET' }));
  await host.waitForLine(/was reset: .*\(no-session\)/);
  spawnVproxy(t, ['-c', `unix-connect:${channel}`, '-i', `echo:127.0.0.1:${target.port}`]);
  await host.waitForLine(ESTABLISHED);
  await eventually(async () => {
    const socket = localSocket(t, { host: '127.0.0.1', port });
    const answer = readToEnd(socket);
    socket.end('x');
    return (await answer).toString() === 'x';
  });
});
