/** `vproxy ps`: the listed processes, and their names. */
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type ListedProcess, listProcesses } from '../../cli/command/list-processes.js';
import { formatProcesses } from '../../cli/commands/ps.js';
import { temporaryFolder } from '../helpers/files.js';
import { upgrade } from '../helpers/upgrades.js';
import { ESTABLISHED, runVproxy, spawnVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

const commOf = (pid: number): string => readFileSync(`/proc/${pid}/comm`, 'utf8').trimEnd();

/** A folder of control sockets for this test only. */
function place(t: ExecutionContext) {
  const runtimeDirectory = temporaryFolder(t);
  const folder = join(runtimeDirectory, 'vproxy');
  mkdirSync(folder);
  return { isRoot: false, runtimeDirectory, folder, socket: null };
}

test('a proxy process is called vproxy, and its command line has no interpreter; also after an upgrade', async (t) => {
  const path = join(temporaryFolder(t), 'c');
  const vproxy = spawnVproxy(t, ['--control', `${path}.sock`, '-c', `unix-listen:${path}`, '--name', 'host1']);
  await vproxy.waitForLine(TAKING_CONTROL);
  t.is(commOf(vproxy.pid), 'vproxy');
  const line = readFileSync(`/proc/${vproxy.pid}/cmdline`, 'utf8').replace(/\0+$/, '');
  t.is(line, `vproxy --control ${path}.sock -c unix-listen:${path} --name host1`);
  t.regex(readFileSync(`/proc/${vproxy.pid}/environ`, 'utf8'), /(?:^|\0)PATH=/, 'the environment is unchanged');
  const { pid } = await upgrade(t, `${path}.sock`);
  t.not(pid, vproxy.pid);
  t.is(commOf(pid), 'vproxy');
});

test('processes are listed as they answer, others as in /proc', async (t) => {
  const { folder, ...here } = place(t);
  const control = (name: string) => ['--control', join(folder, `${name}.sock`)];
  const peer = spawnVproxy(t, ['-c', `unix-listen:${folder}/c`, '--name', 'peer', ...control('peer')]);
  const host = spawnVproxy(t, [
    ...['-c', `a=unix-connect:${folder}/c`, '-c', `b=unix-connect:${folder}/none`],
    ...control('host1'),
  ]);
  const elsewhere = spawnVproxy(t, ['-c', `unix-listen:${folder}/d`, '--control', `${folder}/x.control`]);
  const silent = spawnVproxy(t, ['-c', `unix-listen:${folder}/e`, '--name', 'silent']);
  await Promise.all([
    ...[peer, host, elsewhere].map((one) => one.waitForLine(TAKING_CONTROL)),
    ...[peer, host].map((one) => one.waitForLine(ESTABLISHED)),
    silent.waitForLine(/waiting for the peer/),
  ]);
  const own = [peer, host, elsewhere, silent].map(({ pid }) => pid);
  const listed = (await listProcesses({ ...here, answerMs: 30_000 })).filter(({ pid }) => own.includes(pid));
  t.deepEqual(
    listed.map(({ name, pid, socket, channels, sessions }) => ({ name, pid, socket, channels, sessions })),
    [
      { name: 'host1', pid: host.pid, socket: join(folder, 'host1.sock'), channels: 2, sessions: 1 },
      { name: 'peer', pid: peer.pid, socket: join(folder, 'peer.sock'), channels: 1, sessions: 1 },
      { name: 'silent', pid: silent.pid, socket: null, channels: null, sessions: null },
      { name: 'x.control', pid: elsewhere.pid, socket: `${folder}/x.control`, channels: 1, sessions: 0 },
    ],
  );
  const users = new Set(listed.map(({ user }) => user));
  t.is(users.size, 1);
  for (const { memoryBytes, since } of listed) {
    t.true((memoryBytes ?? 0) > 2 ** 24 && (memoryBytes ?? 0) < 2 ** 30, `${memoryBytes}`);
    const ageMs = Date.now() - Date.parse(since ?? '');
    t.true(ageMs > -2000 && ageMs < 300_000, `${since}`);
  }
});

test('its output is human-readable, or JSON', async (t) => {
  const { folder, runtimeDirectory } = place(t);
  const vproxy = spawnVproxy(t, ['-c', `unix-listen:${folder}/c`, '--control', `${folder}/one.sock`]);
  await vproxy.waitForLine(TAKING_CONTROL);
  const env = { XDG_RUNTIME_DIR: runtimeDirectory, VPROXY_SOCKET: `${folder}/one.sock` };
  const table = await runVproxy(['ps'], { env });
  t.regex(table.stdout, /^NAME +PID +USER +CHANNELS +SESSIONS +MEMORY +SINCE$/m);
  const row = new RegExp(`^one +${vproxy.pid} +\\S+ +1 +0 +[\\d.]+ MB +\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d$`, 'm');
  t.regex(table.stdout, row);
  const { stdout } = await runVproxy(['ps', '--json'], { env });
  const found = (JSON.parse(stdout) as ListedProcess[]).find(({ pid }) => pid === vproxy.pid);
  t.like(found, { name: 'one', channels: 1, sessions: 0, socket: `${folder}/one.sock` });
});

test('missing values and an empty list are explained', (t) => {
  const one = {
    ...{ name: 'host1', pid: 12, user: 'root', socket: '/run/vproxy/host1.sock' },
    ...{ channels: 2, sessions: 1, memoryBytes: 64_000_000, since: new Date(2026, 2, 31, 8, 59).toISOString() },
  };
  const hidden = {
    ...{ name: null, pid: 3, user: null, socket: null },
    ...{ channels: null, sessions: null, memoryBytes: null, since: null },
  };
  t.deepEqual(formatProcesses([one, hidden], null), [
    'NAME   PID  USER  CHANNELS  SESSIONS   MEMORY  SINCE',
    'host1   12  root         2         1  64.0 MB  2026-03-31 08:59',
    '-        3  -            -         -        -  -',
    '',
    'A dash: could not be asked, as the process belongs to another user, or has no control socket.',
  ]);
  t.deepEqual(formatProcesses([], null), ['No running vproxy found, as far as this user can see.']);
});

test('a command of vproxy is not listed as a proxy, nor is a process that only looks like one', async (t) => {
  const proc = temporaryFolder(t);
  const write = (pid: number, comm: string, cmdline: string) => {
    mkdirSync(join(proc, String(pid)));
    writeFileSync(join(proc, String(pid), 'comm'), `${comm}\n`);
    writeFileSync(join(proc, String(pid), 'cmdline'), cmdline);
  };
  write(1, 'vproxy', 'vproxy\0top\0');
  write(2, 'node', 'vproxy -c unix-listen:/x');
  write(3, 'vproxy', '');
  write(4, 'vproxy', `vproxy -c unix-listen:/x --name=host4 --control ${proc}/none.sock\0\0\0`);
  write(5, 'vproxy', 'vproxy -c unix-listen:/x --name ../x\0');
  const here = place(t);
  const found = await listProcesses({ ...here, proc });
  const ours = found.filter(({ socket }) => socket === null);
  t.deepEqual(
    ours.map(({ pid, name, memoryBytes, since }) => ({ pid, name, memoryBytes, since })),
    [
      { pid: 4, name: 'host4', memoryBytes: null, since: null },
      { pid: 5, name: null, memoryBytes: null, since: null },
    ],
  );
});

test('another program that answers like vproxy cannot break the list', async (t) => {
  const here = place(t);
  const socket = join(here.folder, 'odd.sock');
  const answers = ['{"process":{"pid":1}}', '{"process":{"pid":1,"name":{},"memory":{}},"channels":[]}'];
  const server = createServer((client) => client.end(`HTTP/1.0 200 OK\r\n\r\n${answers.pop() ?? ''}`));
  t.teardown(() => server.close());
  await once(server.listen(socket), 'listening');
  while (answers.length > 0) await t.notThrowsAsync(listProcesses({ ...here, socket }));
});
