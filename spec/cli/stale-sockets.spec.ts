/** Control sockets without a listener: which of them are removed. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, renameSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { removeStaleSockets } from '../../cli/run/control-socket.js';
import { controlSocketPath } from '../../lib/control/socket-paths.js';
import { temporaryFolder, untilYounger } from '../helpers/files.js';
import { localServer, localSocket } from '../helpers/proxies.js';
import { spawnVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

/** Ids of processes that have ended. */
function deadPids(count: number): number[] {
  return Array.from({ length: count }, () => Number(execFileSync('sh', ['-c', 'echo $$']).toString()));
}

/** Leaves a socket without a listener, as a killed process does. */
async function leaveSocket(path: string): Promise<void> {
  const script = `require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`;
  await once(spawn(process.execPath, ['-e', script, path]), 'close');
}

async function answeredSocket(t: ExecutionContext, path: string): Promise<void> {
  await localServer(t, (socket) => socket.end(), { path });
}

test('only a socket named after no running process, and without an answer, is removed', async (t) => {
  const folder = temporaryFolder(t);
  const at = (name: string | number) => join(folder, `${name}.sock`);
  const [stale = 0, answered = 0, plain = 0, linked = 0] = deadPids(4);
  const left = join(folder, 'left');
  await leaveSocket(left);
  renameSync(left, at(stale));
  for (const name of [process.pid, 'vm1', 'storage', `0${stale}`, `${stale}x`, '99999999999'])
    await leaveSocket(at(name));
  await answeredSocket(t, at(answered));
  writeFileSync(at(plain), '');
  symlinkSync(at('vm1'), at(linked));
  const before = readdirSync(folder);
  await removeStaleSockets(folder);
  const removed = before.filter((name) => !readdirSync(folder).includes(name));
  t.deepEqual(removed, [`${stale}.sock`]);
});

for (const [how, replace] of [
  ['renamed to it', (path: string) => renameSync(`${path}.new`, path)],
  ['made there', (path: string) => unlinkSync(path)],
] as const) {
  test(`a socket that replaces a stale one while that is probed is kept: ${how}`, async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, `${deadPids(1)[0] ?? 0}.sock`);
    await leaveSocket(path);
    await untilYounger(path);
    const isRenamed = how === 'renamed to it';
    const server = net.createServer((socket) => socket.on('error', () => undefined).end());
    t.teardown(() => server.close());
    if (isRenamed) await once(server.listen(`${path}.new`), 'listening');
    const removed = removeStaleSockets(folder);
    // The stale socket has been probed by now; the result is not read yet.
    replace(path);
    if (!isRenamed) server.listen(path);
    await removed;
    t.true(existsSync(path));
    await once(localSocket(t, { path }), 'connect');
  });
}

test('a missing or unreadable folder is not an error', async (t) => {
  await t.notThrowsAsync(removeStaleSockets(join(temporaryFolder(t), 'none')));
  await t.notThrowsAsync(removeStaleSockets('/dev/null'));
});

test('a starting process removes the socket that a killed one left next to its own', async (t) => {
  const runtimeDirectory = temporaryFolder(t);
  const options = { hasDefaultControl: true, env: { XDG_RUNTIME_DIR: runtimeDirectory } };
  const pathOf = (pid: number) =>
    controlSocketPath(String(pid), { isRoot: process.getuid?.() === 0, runtimeDirectory }) ?? '';
  const start = async (name: string, ...args: string[]) => {
    const vproxy = spawnVproxy(t, ['-c', `unix-listen:${runtimeDirectory}/${name}`, ...args], options);
    await vproxy.waitForLine(TAKING_CONTROL);
    return vproxy;
  };
  const killed = await start('a');
  const path = pathOf(killed.pid);
  t.true(existsSync(path));
  killed.kill('SIGKILL');
  await killed.exited;
  // All processes of root share a folder: another one may have removed it by now.
  const folder = temporaryFolder(t);
  const stale = join(folder, `${deadPids(1)[0] ?? 0}.sock`);
  await leaveSocket(stale);
  const elsewhere = await start('b', '--control', join(folder, 'b.sock'));
  t.true(existsSync(stale), 'a process whose socket was named does not look beside it');
  const next = await start('c');
  t.false(existsSync(path));
  t.true(existsSync(pathOf(next.pid)));
  await next.stop();
  await elsewhere.stop();
});
