/** Several processes of a machine with the same channel: what users see, and which process is named. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { basename, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { findRival } from '../../cli/run/find-rival.js';
import { parseChannel } from '../../lib/channel/address/address.js';
import { connectControl } from '../../lib/control/client/client.js';
import { ControlServer } from '../../lib/control/server/control-server.js';
import { MAX_TIMER_MS } from '../../lib/util/clock.js';
import { TestProcess } from '../helpers/control.js';
import { temporaryFolder } from '../helpers/files.js';
import { proxyPair } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { ESTABLISHED, runVproxy, spawnVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

/** A folder of control sockets for this test only; as root processes share one. */
function place(t: ExecutionContext) {
  const runtimeDirectory = temporaryFolder(t);
  mkdirSync(join(runtimeDirectory, 'vproxy'));
  const control = (name: string) => ['--name', name, '--control', join(runtimeDirectory, 'vproxy', `${name}.sock`)];
  return { control, isRoot: false, runtimeDirectory, answerMs: MAX_TIMER_MS };
}

test.serial('the process that loses the channel names the other, and gets it back when that one exits', async (t) => {
  const folder = temporaryFolder(t);
  const env = { XDG_RUNTIME_DIR: temporaryFolder(t) };
  const unique = `spec-${process.pid}-${basename(folder).split('-').at(-1) ?? ''}`;
  const start = (name: string, channel: string) =>
    spawnVproxy(t, ['-c', `vm1=${channel}:${folder}/c`, '--name', `${unique}-${name}`], {
      env,
      hasDefaultControl: true,
    });
  const peer = start('peer', 'unix-listen');
  await peer.waitForLine(TAKING_CONTROL);
  const first = start('first', 'unix-connect');
  await first.waitForLine(ESTABLISHED);
  const second = start('second', 'unix-connect');
  await second.waitForLine(ESTABLISHED);
  await first.waitForLine(
    new RegExp(
      `vm1: session on unix-connect:\\S+ ended: a newer connection took the channel: ${unique}-second, vproxy \\S+; to keep others out, listen with the option exclusive, or give both sides a --key \\(channel-displaced\\)$`,
    ),
  );
  await first.waitForLine(
    new RegExp(
      `^vproxy: warning: vm1: process ${second.pid} \\(${unique}-second\\) took the channel unix-connect:${folder}/c; waiting until it releases it$`,
    ),
  );
  const from = first.lines.length;
  t.is((await second.stop()).code, 0);
  await first.waitForLine(ESTABLISHED, { from });
  const sessions = () => peer.lines.filter((line) => ESTABLISHED.test(line)).length;
  await eventually(() => sessions() >= 3);
  t.is(sessions(), 3, 'no process took it from the other in between');
});

test('a vproxy with a session on the same channel is found, by any spelling, until its session ends', async (t) => {
  const here = place(t);
  const folder = temporaryFolder(t);
  spawnVproxy(t, ['-c', `unix-listen:${folder}/c`, ...here.control('peer')]);
  const other = spawnVproxy(t, ['-c', `unix-connect:${folder}/./c`, ...here.control('host2')]);
  await Promise.all([other.waitForLine(ESTABLISHED), other.waitForLine(TAKING_CONTROL)]);
  const find = (address: string) => findRival(here, { channel: parseChannel(address), device: null });
  const rival = await find(`unix-connect:${folder}/../${basename(folder)}/c`);
  t.like(rival, { pid: other.pid, name: 'host2' });
  t.false(await rival?.hasLeft());
  t.is(await find(`unix-connect:${folder}/d`), null);
  t.is(await find(`unix-listen:${folder}/d`), null);
  t.is(await find('exec:true'), null);
  await other.stop();
  t.true(await rival?.hasLeft());
  t.is(await find(`unix-connect:${folder}/c`), null);
});

test('a vproxy whose session is suspended does not have the channel, but keeps its turn', async (t) => {
  const here = place(t);
  const path = join(temporaryFolder(t), 'c');
  const peer = spawnVproxy(t, ['-c', `unix-listen:${path},resume=60s`, ...here.control('peer')]);
  const other = spawnVproxy(t, ['-c', `unix-connect:${path},resume=60s`, ...here.control('host2')]);
  await Promise.all([other.waitForLine(ESTABLISHED), other.waitForLine(TAKING_CONTROL)]);
  const find = () => findRival(here, { channel: parseChannel(`unix-connect:${path}`), device: null });
  const rival = await find();
  t.like(rival, { pid: other.pid });
  // An answer comes after the peer's part of the secret, without which nothing can resume.
  await connectControl(join(here.runtimeDirectory, 'vproxy', 'host2.sock')).ping();
  peer.kill('SIGKILL');
  await other.waitForLine(/waiting to resume/);
  t.false(await rival?.hasLeft());
  t.is(await find(), null);
});

test('a process is not its own rival', async (t) => {
  const here = place(t);
  const { b, path } = await proxyPair(t);
  const server = new ControlServer({ proxy: b.proxy, process: new TestProcess() });
  t.teardown(() => server.close());
  await server.listen({ path: join(here.runtimeDirectory, 'vproxy', 'own.sock') });
  t.is(await findRival(here, { channel: parseChannel(`unix-connect:${path}`), device: null }), null);
});

test('the process that has a device open is found in /proc', async (t) => {
  const device = join(temporaryFolder(t), 'device');
  writeFileSync(device, '');
  const query = { channel: parseChannel('virtserial-open:org.vproxy.0'), device };
  const own = openSync(device, 'r');
  t.teardown(() => closeSync(own));
  t.is(await findRival(place(t), query), null, 'this process does not count');
  const holder = spawn('sleep', ['infinity'], { stdio: [own, 'ignore', 'ignore'] });
  const ended = once(holder, 'exit');
  t.teardown(() => holder.kill());
  await once(holder, 'spawn');
  const rival = await findRival(place(t), query);
  t.like(rival, { pid: holder.pid, name: 'sleep' });
  t.false(await rival?.hasLeft());
  holder.kill();
  await ended;
  t.true(await rival?.hasLeft());
});

test('the same channel twice in a file is rejected with one line, and by vproxy check with one for each', async (t) => {
  const folder = temporaryFolder(t);
  const refusal = (label: string) =>
    `channel ${label}: unix-connect:${folder}/c is already in use by channel a; a process can open it only once`;
  const file = join(folder, 'c.toml');
  writeFileSync(
    file,
    `[channels.a]\naddress = "unix-connect:${folder}/c"\n[channels.b]\naddress = "unix-connect:${folder}/./c"\n[channels.c]\naddress = "unix-connect:${folder}/c"\n`,
  );
  t.deepEqual(await runVproxy(['check', file]), {
    code: 65,
    stdout: '',
    stderr: `${file}: channels.b: ${refusal('b').replace(`${folder}/c`, `${folder}/./c`)}\n${file}: channels.c: ${refusal('c')}\n`,
  });
  const { code, stderr } = await runVproxy(['--config', file]);
  t.is(code, 64);
  t.regex(stderr, /^vproxy: error: channel b: \S+ is already in use by channel a; [^\n]*\n$/);
});

test('a process does not query itself', async (t) => {
  const here = place(t);
  const sockets = ['other', 'own'].map((name) => join(here.runtimeDirectory, 'vproxy', `${name}.sock`));
  const asked: string[] = [];
  for (const path of sockets) {
    const server = createServer((socket) => {
      asked.push(basename(path));
      socket.on('error', () => undefined).destroy();
    });
    await once(server.listen(path), 'listening');
    t.teardown(() => server.close());
  }
  const query = { channel: parseChannel('unix-connect:/nowhere/c'), device: null };
  t.is(await findRival({ ...here, own: sockets.slice(1) }, query), null);
  t.deepEqual(asked, ['other.sock']);
});
