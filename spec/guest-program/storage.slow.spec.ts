/** Storage calls of vproxy-guest beside a caller, or an emulator, that holds its own call up. */
import { execFile } from 'node:child_process';
import { readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { localServer, localSocket, startProxy } from '../helpers/proxies.js';
import { type Decide, FieldEmulator, runWrapper } from '../helpers/storage.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';
import { AS_GUEST, buildGuest, GUEST } from './build.js';

const withGo = serialTestWith('go');

buildGuest();

/** A guest, whose host has these forwards for `storage`. */
async function start(t: ExecutionContext, forwards: { outgoing?: string[]; incoming?: string[] }) {
  const folder = temporaryFolder(t);
  const path = join(folder, 'storage.sock');
  symlinkSync(GUEST, join(folder, 'storcli64'));
  const host = await startProxy(t, `unix-listen:${join(folder, 'channel')}`, forwards);
  const words = ['-c', `unix-connect:${join(folder, 'channel')}`, '--storage-socket', path, '-v'];
  const guest = spawnVproxy(t, words, AS_GUEST);
  await host.event('session-established');
  /** A call without the wrapper: it need not read its answer. */
  const begin = (word: string) => {
    const socket = localSocket(t, path).pause();
    socket.write(`${JSON.stringify({ argv: ['storcli64', word] })}\n`);
    return socket;
  };
  const call = async (word: string) => String((await runWrapper(folder, [word])).stdout);
  return { folder, host, guest, begin, call };
}

/** Echoes, but for these words: silence, or as many characters. */
const decide: Decide = ([, word = '']) => {
  if (word === 'hang') return new Promise(() => undefined);
  const stdout = Number(word) > 0 ? 'x'.repeat(Number(word)) : word;
  return { stdout, stderr: 'error', status: 3 };
};

withGo('a caller that does not read its answer holds up no other', async (t) => {
  const emulator = await FieldEmulator.readline(t, decide);
  const { begin, call } = await start(t, { incoming: [`storage:${emulator.port}`] });
  begin('2000000');
  await eventually(() => emulator.requests.length === 1);
  t.is(await call('other'), 'other');
});

withGo('an emulator that hangs holds up its own call, for 30 s', async (t) => {
  t.timeout(90_000);
  const { host, guest, begin, call } = await start(t, { outgoing: ['storage:0'] });
  const emulators = [1, 2].map(() => FieldEmulator.dialing(t, host.port('storage'), decide));
  await eventually(() => guest.lines.filter((line) => /emulator .* attached/.test(line)).length === 2);
  const hanging = begin('hang');
  await eventually(() => emulators.some(({ requests }) => requests.length === 1));
  for (const word of ['one', 'two', 'three']) t.is(await call(word), word);
  let answer = '';
  hanging.on('data', (bytes: Buffer) => (answer += String(bytes))).resume();
  await eventually(() => answer.endsWith('\n'), { timeoutMs: 60_000 });
  t.deepEqual(JSON.parse(answer), { error: { code: 'storage-timeout', message: 'no answer within 30 s' } });
  await guest.waitForLine(/emulator .* detached: storage call cancelled/);
  t.is(await call('four'), 'four');
});

withGo('calls wait, in order, for an emulator that does not listen yet', async (t) => {
  const closed = await localServer(t, () => undefined);
  const { port } = closed;
  closed.close();
  const { guest, call } = await start(t, { incoming: [`storage:${port}`] });
  const first = call('first');
  await guest.waitForLine(/emulator peer refused/);
  const second = call('second');
  const emulator = await FieldEmulator.readline(t, decide, port);
  t.deepEqual(await Promise.all([first, second]), ['first', 'second']);
  t.deepEqual(emulator.requests, ['first', 'second']);
});

withGo('a reply of 4 MiB takes less than 64 MB, and a longer one fails', async (t) => {
  const emulator = await FieldEmulator.readline(t, decide);
  const { folder, guest, call } = await start(t, { incoming: [`storage:${emulator.port}`] });
  t.is((await call('4190000')).length, 4_190_000);
  const { stderr, status } = await runWrapper(folder, ['60000000']);
  t.is(status, 126);
  t.regex(stderr, /the reply is too long \(max 4194304 bytes\)/);
  const [, peak] = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${guest.pid}/status`, 'utf8')) ?? [];
  t.log(`${peak} kB`);
  t.true(Number(peak) < 64_000, peak);
});

withGo('standard error has a reader, although standard output has none', async (t) => {
  const emulator = await FieldEmulator.readline(t, decide);
  const { folder } = await start(t, { incoming: [`storage:${emulator.port}`] });
  const env = { ...process.env, VPROXY_STORAGE_SOCKET: join(folder, 'storage.sock') };
  const script = '{ "$0" 100000; echo " $?" >&2; } | head -0';
  const { stderr } = await promisify(execFile)('sh', ['-c', script, join(folder, 'storcli64')], { env });
  t.is(stderr, 'error 3\n');
});
