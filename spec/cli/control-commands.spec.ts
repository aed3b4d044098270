/** The commands that inspect and change a running vproxy. */
import { once } from 'node:events';
import { join, relative, resolve } from 'node:path';
import test from 'ava';
import { formatChannel, formatChannels } from '../../cli/ui/status.js';
import { makeEvent } from '../../lib/events.js';
import type { ControlEvent, ControlStatus } from '../../lib/status/types.js';
import { callVproxy } from '../helpers/call-vproxy.js';
import { temporaryFolder, writeKeyFile } from '../helpers/files.js';
import { answerTo, echo, localServer, localSocket, steeredPair } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { runPiped } from '../helpers/vproxy-process.js';

const json = (text: string): unknown => JSON.parse(text);

/** The result of a silent command that changes something. */
const SILENT = { code: 0, stdout: '', stderr: '' };

test('the verbose status shows each channel in full', async (t) => {
  const { run, client } = await steeredPair(t, {});
  const { code, stdout } = await run('status', '--verbose');
  t.is(code, 0);
  t.regex(stdout, /^host1: process \d+, .*\n(?:.+\n)*\nchannel +default\naddress +unix-.*\nstate +established/);
  t.notRegex(stdout, /^socket buffer|^resumed|^stalled/m);
  const channel = await client.channel('default');
  t.is(channel.bufferBytes, null);
  const totals = { ...channel.totals, resumptions: 2, resentBytes: 1_500 };
  const full = formatChannel({ ...channel, bufferBytes: 1_048_576, totals }).join('\n');
  t.regex(full, /^socket buffer +1\.0 MB$/m);
  t.regex(full, /^resumed +2 times, 1\.5 kB resent$/m);
  const none = Object.fromEntries(Object.keys(totals).map((name) => [name, 0])) as unknown as typeof totals;
  const history = { sessions: 0, ends: {}, recent: [] };
  const waiting = { ...channel, session: null, state: 'waiting', detail: 'no answer', totals: none, history } as const;
  t.regex(formatChannel(waiting).join('\n'), /^channel +default\naddress .*\nstate +waiting for \w+: no answer$/);
});

test('a channel whose peer owes an answer is shown as silent, without the round trip of before', async (t) => {
  const { client } = await steeredPair(t, {});
  const channel = await client.channel('default');
  const silent = { ...channel, session: channel.session && { ...channel.session, silentMs: 95_200, roundTripMs: 6.4 } };
  const why = 'silent for 95 s: an answer is overdue; .* may be paused, hung or rebooting';
  t.regex(
    formatChannels([silent], null).join('\n'),
    new RegExp(`\\ndefault +silent +1m 35s +b \\(vproxy test\\) +- .*\\n\\ndefault: ${why}$`),
  );
  t.regex(formatChannel(silent).join('\n'), new RegExp(`^state +established for \\w+: ${why}$`, 'm'));
});

test('status, channels, forwards and services, human-readable and as JSON', async (t) => {
  const { run } = await steeredPair(t, {
    here: { outgoing: ['ssh:127.0.0.1:0'] },
    peer: { incoming: ['web:127.0.0.1:9'] },
  });
  for (const [words, text, expected] of [
    ['status', /^host1: process \d+, vproxy test on Node [\d.]+, up \d+s\nmemory [\d.]+ MB/, { forwards: 1 }],
    [
      'status',
      /^CHANNEL +STATE +FOR +PEER +RTT .*\ndefault +established +\d+s +b \(vproxy test\) +[\d.]+ m?s/m,
      { process: { pid: process.pid } },
    ],
    ['channels', /^CHANNEL.*\ndefault +established/, { 0: { label: 'default' } }],
    ['channels default', /^ {2}offers +web$/m, { label: 'default' }],
    [
      'forwards',
      /\nf1 +default +outgoing +ssh +127\.0\.0\.1:\d+ +not offered +0 +0\n$/,
      { 0: { id: 'f1', service: 'ssh' } },
    ],
    ['services', /\ndefault +web +peer +-\n$/, { 0: { service: 'web' } }],
  ] as const) {
    const { stdout, ...rest } = await run(...words.split(' '));
    t.deepEqual(rest, { code: 0, stderr: '' }, words);
    t.regex(stdout, text);
    t.like(json((await run(...words.split(' '), '--json')).stdout), expected, words);
  }
  t.deepEqual(await run('streams'), { ...SILENT, stdout: 'There are no streams.\n' });
  t.deepEqual(json((await run('streams', '--json')).stdout), []);
  t.like(await run('streams', '--channel', 'vm9'), { code: 69, stdout: '' });
});

test('a forward is added, used, seen in streams, and removed', async (t) => {
  const target = await localServer(t, echo);
  const { run, client } = await steeredPair(t, { peer: { incoming: [`echo:127.0.0.1:${target.port}`] } });
  const added = await run('forward', 'add', '-o', 'default/echo:127.0.0.1:0');
  const [, port] = /^f1: listens on 127\.0\.0\.1:(\d+) for echo of default\n$/.exec(added.stdout) ?? [];
  const socket = localSocket(t, Number(port));
  t.is(await answerTo(socket, 'hello'), 'hello');
  const [stream] = await client.streams();
  const name = `default/${stream?.id ?? 0}`;
  t.regex((await run('streams')).stdout, new RegExp(`\\n${name} +echo +outgoing +\\S+ +\\d+s +5 B +5 B `));
  t.deepEqual(await run('stream', 'close', name), SILENT);
  t.like(await run('stream', 'close', name), { code: 69 });
  const twin = json((await run('forward', 'add', '-o', 'echo:127.0.0.1:0', '--json')).stdout) as { endpoint: string };
  const { code, stderr } = await run('forward', 'remove', 'echo');
  t.is(code, 64);
  t.regex(stderr, /several forwards match "echo": f1: .*; f2: /);
  t.deepEqual(await run('forward', 'remove', twin.endpoint.replace(/^.*:/, 'echo:')), SILENT);
  t.deepEqual(await run('forward', 'remove', 'echo', '--now'), SILENT);
  t.like(await run('forward', 'remove', 'f1'), { code: 69 });
  t.like(await run('forwards'), { stdout: 'There are no forwards.\n' });
});

test('a channel is added and removed', async (t) => {
  const { run, here } = await steeredPair(t);
  const folder = temporaryFolder(t);
  const address = `unix-connect:${join(folder, 'none')}`;
  const keys = [writeKeyFile(folder, 'one.key', '1f'), relative('.', writeKeyFile(folder, 'two.key', '2e'))];
  const words = ['-o', 'ssh:127.0.0.1:0', '--wait', '3', '--own-name', 'me', '--rule', 'ssh:streams=2'];
  const flags = ['--allow-exec', '--no-storage', '--peer-address', ...keys.flatMap((key) => ['--key', key])];
  const added = await run('channel', 'add', `vm2=${address}`, ...words, ...flags);
  t.is(added.stderr, '');
  t.regex(added.stdout, /^vm2: (opening|waiting|backing-off)/);
  t.like(here.proxy.options[1], {
    ...{ label: 'vm2', address, waitMs: 3000, name: 'me', keyFiles: keys.map((key) => resolve(key)) },
    ...{ exec: { commands: 'any' }, policies: { ssh: { streams: 2 } }, storage: { isAllowed: false } },
    peerAddress: true,
  });
  // During an attempt it waits for nothing.
  await eventually(async () => /\nvm2: .*none/.test((await run('status')).stdout), { what: 'what vm2 waits for' });
  t.like(await run('channel', 'add', `vm2=${address}`), { code: 64 });
  t.deepEqual(await run('channel', 'remove', 'vm2'), SILENT);
  t.like(await run('channel', 'remove', 'vm2', '--now'), { code: 69 });
});

test('events: as lines of the log, and as JSON', async (t) => {
  const { run, env, client } = await steeredPair(t);
  await client.addForward({ direction: 'outgoing', spec: 'ssh:127.0.0.1:0' });
  const text = await run('events', '--no-follow', '--replay', '2');
  const [listening = '', missing = '', ...rest] = text.stdout.split('\n');
  t.regex(listening, /^\S+ \d\d:\d\d:\d\d\.\d{3} vproxy: listening on 127\.0\.0\.1:\d+ for ssh$/);
  t.regex(missing, /\d vproxy: warning: -o ssh:127\.0\.0\.1:0: the peer offers no service ssh; it offers: nothing$/);
  t.deepEqual(rest, ['']);
  const lines = (await run('events', '--no-follow', '--json')).stdout.trim().split('\n');
  t.like(json(lines.at(-2) ?? ''), { event: 'listening', fields: { channel: 'default', service: 'ssh' } });
  const followed = runPiped(t, ['events', '--replay', '1'], env);
  t.regex(String((await once(followed.child.stdout, 'data'))[0]), /no service ssh\b.*\n$/);
  const next = once(followed.child.stdout, 'data');
  await client.addForward({ direction: 'outgoing', spec: 'web:127.0.0.1:0' });
  t.regex(String((await next)[0]), /for web\n/);
  followed.child.kill('SIGINT');
  await followed.ended;
});

test('events: after a time, and by level, name and fields', async (t) => {
  const { run, client } = await steeredPair(t);
  const startedAt = new Date(Date.now() - 60_000).toISOString();
  for (const service of ['ssh', 'web']) {
    await client.addForward({ direction: 'outgoing', spec: `${service}:127.0.0.1:0` });
  }
  const events = async (...words: readonly string[]): Promise<string[]> => {
    const { stdout } = await run('events', '--no-follow', '--json', ...words);
    const seen = stdout
      .split('\n')
      .slice(0, -1)
      .map((line) => json(line) as ControlEvent);
    return seen.map(({ event, fields }) => `${event} ${String(fields['service'])}`);
  };
  const filter = (...pairs: readonly string[]) => events(...pairs.flatMap((pair) => ['--filter', pair]));
  t.deepEqual(await filter('event=listening', 'event=session-ended'), ['listening ssh', 'listening web']);
  t.deepEqual(await filter('level=warn', 'level=error', 'service=web'), ['service-missing web']);
  t.deepEqual(await filter('service=ssh', 'channel=default'), ['listening ssh', 'service-missing ssh']);
  t.deepEqual(await events('default', '--filter', 'forward=f2'), ['listening web', 'service-missing web']);
  const all = await events();
  for (const since of [startedAt, startedAt.replace('Z', '+00:00'), '1h', '3600', '2026-03-31', '2026-03-31 08:59'])
    t.deepEqual(await events('--since', since), all, since);
  for (const since of ['0', '0s', new Date(Date.now() + 60_000).toISOString()])
    t.deepEqual(await events('--since', since), [], since);
});

test('lists: only the names, with more columns, and again when they have changed', async (t) => {
  const { run, env, client, control } = await steeredPair(t, {
    here: { incoming: ['ssh:127.0.0.1:9'] },
    peer: { incoming: ['ssh:127.0.0.1:9', 'web:127.0.0.1:9'] },
  });
  for (const [words, names, wide] of [
    ['status', 'default\n', /^CHANNEL .* AUTH +ADDRESS +GROUP .*\ndefault .* none +unix-\S+ +- /m],
    ['channels', 'default\n', / FAILED\ndefault .* 0\n$/],
    ['forwards', 'f1\n', / MESSAGES +DROPPED +TEXT\nf1 .* - +- +ssh:127\.0\.0\.1:9\n$/],
    ['services', 'default/ssh\ndefault/web\n', /^CHANNEL /],
    ['streams', '', /^There are no streams\.\n$/],
    ['egress list', '', /^There are no egresses\.\n$/],
  ] as const) {
    t.deepEqual(await run(...words.split(' '), '-o', 'name'), { ...SILENT, stdout: names }, words);
    t.regex((await run(...words.split(' '), '--output=wide')).stdout, wide, words);
  }
  t.deepEqual(json((await run('forwards', '-ojson')).stdout), await client.forwards());
  let looks = 0;
  Object.defineProperty(control.process, 'version', { get: () => (looks++, 'vproxy test') });
  const watching = [['status'], ['status', '-o', 'json']].map((words) => runPiped(t, [...words, '--watch=0.1'], env));
  await Promise.all(watching.map(({ child }) => once(child.stdout, 'data')));
  // Times alone are no change.
  const before = looks;
  await eventually(() => looks > before + 10);
  const changed = watching.map(({ child }) => once(child.stdout, 'data'));
  await client.addForward({ direction: 'outgoing', spec: 'web:127.0.0.1:0' });
  await Promise.all(changed);
  for (const { child } of watching) child.kill('SIGINT');
  const [table = '', lines = ''] = await Promise.all(watching.map(async ({ output }) => (await output).toString()));
  t.regex(table, /^host1: [^]*\n1 forward, [^]*\n\nhost1: [^]*\n2 forwards, /);
  t.deepEqual(
    lines
      .trimEnd()
      .split('\n')
      .map((line) => (json(line) as ControlStatus).forwards),
    [1, 2],
  );
});

test('ping: a line for each, and statistics; status 1 without an answer', async (t) => {
  const { run, peer, here } = await steeredPair(t);
  const answered = await run('ping', '-c', '2', '-i', '0');
  t.is(answered.code, 0);
  const report =
    /^default: seq=1 time=[\d.]+ ms\ndefault: seq=2 time=[\d.]+ ms\n\n--- default ping statistics ---\n2 sent, 2 answered, 0% lost, time \d+ ms\nround trip min\/avg\/max\/mdev = [\d./]+ ms\n$/;
  t.regex(answered.stdout, report);
  const lines = (await run('ping', '-c', '1', '--json')).stdout;
  t.like(json(lines), { channel: 'default', seq: 1 });
  await peer.proxy.stop();
  await here.event('session-ended');
  const lost = await run('ping', '-c', '1');
  t.is(lost.code, 1);
  t.regex(lost.stdout, /seq=1 no session.*1 sent, 0 answered, 100% lost/s);
});

test('wait: for a service that appears, and one that does not', async (t) => {
  const { run, env, peer } = await steeredPair(t);
  t.deepEqual(await run('wait'), SILENT);
  const waiting = runPiped(t, ['wait', '--service', 'late', '--json'], env);
  peer.proxy.serve('late', (stream) => stream.destroy());
  t.deepEqual(await waiting.ended, { code: 0, stderr: '' });
  t.like(json((await waiting.output).toString()), { label: 'default' });
  const late = await run('wait', '--service', 'never', '--timeout', '0.2');
  t.like(late, { code: 69, stdout: '' });
  t.regex(late.stderr, /^vproxy: error: .*never.*\n$/);
});

test('log-level, reload, and the answers of the process', async (t) => {
  const { run, control } = await steeredPair(t);
  t.deepEqual(await run('log-level'), { code: 0, stdout: 'info\n', stderr: '' });
  t.deepEqual(await run('log-level', 'debug'), { code: 0, stdout: 'debug\n', stderr: '' });
  t.is(control.process.logLevel, 'debug');
  t.like(await run('log-level', 'loud'), { code: 64 });
  t.like(await run('reload'), { code: 0, stdout: 'nothing has changed\n' });
  const nothing = await control.process.reload();
  control.process.reload = () => Promise.resolve({ ...nothing, addedForwards: ['-o vm1/ssh:127.0.0.1:22'] });
  t.like(await run('reload'), { code: 0, stdout: 'forward added: -o vm1/ssh:127.0.0.1:22\n' });
});

for (const words of [['drain', '--timeout', '5'], ['stop']]) {
  test(`${words[0] ?? ''} ends when the process has exited`, async (t) => {
    const { run, control, env } = await steeredPair(t);
    const { process: told, server } = control;
    // The command waits for the last event, and every process has logged at least this one.
    server.record(makeEvent('control-listening', 'taking control requests', { path: control.path }));
    const command = runPiped(t, words, env);
    await eventually(() => told.told.length === 1, { what: 'its request', timeoutMs: 60_000 });
    // It polls; after its next request the test sees that it has not ended.
    await server.close();
    t.is(command.child.exitCode, null);
    t.deepEqual(await command.ended, { code: 0, stderr: '' });
    t.like(await run('status'), { code: 69, stdout: '' });
  });
}

test('without an answer there is one line, and status 69', async (t) => {
  const path = join(temporaryFolder(t), 'none');
  const line = `vproxy: error: no process answers on ${path}: the socket does not exist\n`;
  for (const words of [['status'], ['connect', 'x'], ['events'], ['top'], ['ping']]) {
    t.deepEqual(await callVproxy([...words, '--socket', path]), { code: 69, stdout: '', stderr: line }, words[0]);
  }
});
