/** Emulators made with `createStorageEmulator`. */
import { once } from 'node:events';
import { createConnection, createServer } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import type { VproxyError } from '../../lib/errors.js';
import { createStorageEmulator, type StorageEmulator, type StorageHandler } from '../../lib/storage/emulator.js';
import type { StorageRequest } from '../../lib/storage/wire.js';
import { temporaryFolder } from '../helpers/files.js';
import { attachPort, peerAt, startGuest, until } from '../helpers/storage-setup.js';
import { ManualClock } from '../helpers/time.js';

const echo: StorageHandler = ({ argv }) => ({ stdout: `${argv.slice(1).join(' ')}\n` });

async function listening(t: ExecutionContext, handler: StorageHandler): Promise<[StorageEmulator, number]> {
  const emulator = createStorageEmulator(handler);
  t.teardown(() => emulator.close());
  const address = await emulator.listen({ host: '127.0.0.1', port: 0 });
  return [emulator, 'port' in address ? address.port : 0];
}

/** Sends bytes, closes the sending side, and resolves with all that comes back, as lines. */
async function ask(port: number, bytes: string): Promise<string[]> {
  const socket = createConnection({ host: '127.0.0.1', port, allowHalfOpen: true });
  socket.end(bytes);
  const lines = (await text(socket)).split('\n');
  return lines.slice(0, -1).map((line) => (JSON.parse(line) as { stdout: string; stderr: string }).stdout);
}

test('requests are answered however they end', async (t) => {
  const [, port] = await listening(t, echo);
  t.deepEqual(await ask(port, '{"argv":["s","a"]}\n'), ['a\n']);
  t.deepEqual(await ask(port, '{"argv":["s","a"]}'), ['a\n']);
  t.deepEqual(await ask(port, '{"argv":["s","a"]}{"argv":["s","b"]}\n{"argv":["s","c"]}'), ['a\n', 'b\n', 'c\n']);
  t.deepEqual(await ask(port, '{\n  "argv": [\n    "s",\n    "a"\n  ]\n}\n'), ['a\n']);
  t.deepEqual(await ask(port, `{"argv":["s","${'x'.repeat(100_000)}"]}\n`), [`${'x'.repeat(100_000)}\n`]);
  t.deepEqual(await ask(port, ''), []);
});

test('a request without a terminator is answered while the connection stays open', async (t) => {
  const [, port] = await listening(t, echo);
  const socket = createConnection({ host: '127.0.0.1', port });
  t.teardown(() => socket.destroy());
  for (const word of ['one', 'two']) {
    socket.write(`{"argv":["s","${word}"]}`);
    const reply = await new Promise<Buffer>((resolve) => socket.once('data', resolve));
    t.is(reply.toString(), `{"stdout":"${word}\\n","stderr":"","status":0}\n`);
  }
});

test('connections are served at once, and the requests of each one after the other', async (t) => {
  const waiting: (() => void)[] = [];
  const [, port] = await listening(t, async (request) => {
    await new Promise<void>((resolve) => waiting.push(resolve));
    return echo(request);
  });
  const answers = ['a', 'b', 'c'].map((name) => ask(port, `{"argv":["s","${name}1"]}{"argv":["s","${name}2"]}`));
  for (let round = 0; round < 2; round += 1) {
    await until(() => waiting.length === 3);
    for (const resolve of waiting.splice(0)) resolve();
  }
  t.deepEqual((await Promise.all(answers)).flat(), ['a1\n', 'a2\n', 'b1\n', 'b2\n', 'c1\n', 'c2\n']);
});

test('what is no request is told so, and the next one is answered', async (t) => {
  const requests: StorageRequest[] = [];
  const [emulator, port] = await listening(t, echo);
  emulator.on('request', (request) => requests.push(request));
  const socket = createConnection({ host: '127.0.0.1', port, allowHalfOpen: true });
  socket.end('hello\n{"argv":["s","x"],"vm":"n1"}');
  const [bad, good] = (await text(socket)).trim().split('\n');
  t.like(JSON.parse(bad ?? ''), { stdout: '', status: 126 });
  t.like(JSON.parse(good ?? ''), { stdout: 'x\n', status: 0 });
  t.deepEqual(requests, [{ argv: ['s', 'x'], vm: 'n1' }]);
});

test('a request over the bound ends its connection only', async (t) => {
  const [emulator, port] = await listening(t, echo);
  const failures: VproxyError[] = [];
  emulator.on('failure', (error) => failures.push(error));
  const socket = createConnection({ host: '127.0.0.1', port });
  const closed = new Promise((resolve) => socket.once('close', resolve).once('error', resolve));
  socket.write(`{"argv":["s","${'x'.repeat(1024 * 1024)}"]}`);
  await closed;
  await until(() => failures.length > 0);
  t.is(failures[0]?.code, 'storage-bad-request');
  t.deepEqual(await ask(port, '{"argv":["s","a"]}'), ['a\n']);
});

test('a handler that throws makes the call fail, and the next works', async (t) => {
  const [emulator, port] = await listening(t, (request) => {
    if (request.argv[1] === 'throw') throw new Error('no such controller');
    if (request.argv[1] === 'status') return { status: 1000 };
    return echo(request);
  });
  const failures: string[] = [];
  emulator.on('failure', (error) => failures.push(error.message));
  const guest = await startGuest(t, { peer: peerAt(port) });
  await t.throwsAsync(guest.call('throw'), { code: 'storage-unavailable', message: /hung up without a reply/ });
  await t.throwsAsync(guest.call('status'), { code: 'storage-unavailable' });
  t.is((await guest.call('x')).stdout.toString(), 'x\n');
  t.deepEqual(failures.slice(0, 1), ['no such controller']);
  t.regex(failures[1] ?? '', /exit status 1000/);
});

test('binary output arrives byte for byte, and every exit status', async (t) => {
  const bytes = Buffer.from(Array.from({ length: 512 }, (_, index) => index & 255));
  const [, port] = await listening(t, ({ argv }) => ({ stdout: bytes, stderr: bytes, status: Number(argv[1]) }));
  const guest = await startGuest(t, { peer: peerAt(port), parallel: 8 });
  const replies = await Promise.all(Array.from({ length: 256 }, (_, status) => guest.call(String(status))));
  for (const [status, reply] of replies.entries()) {
    t.deepEqual(reply, { stdout: bytes, stderr: bytes, status });
  }
});

test('an emulator that dials answers, and dials again when its connection ends', async (t) => {
  const guest = await startGuest(t);
  const port = await attachPort(t, guest.broker);
  const clock = new ManualClock();
  const emulator = createStorageEmulator(
    (request) => (request.argv[1] === 'die' ? Promise.reject(new Error('dead')) : echo(request)),
    { clock },
  );
  t.teardown(() => emulator.close());
  emulator.dial({ host: '127.0.0.1', port });
  t.is((await guest.call('one')).stdout.toString(), 'one\n');
  await t.throwsAsync(guest.call('die'), { code: 'storage-unavailable' });
  const next = guest.call('two');
  await until(() => {
    clock.advance(50);
    return guest.broker.emulators.attachedCount === 1;
  });
  t.is((await next).stdout.toString(), 'two\n');
});

test('an emulator that dials tries again while nobody listens, more and more seldom', async (t) => {
  const clock = new ManualClock();
  const emulator = createStorageEmulator(echo, { clock });
  t.teardown(() => emulator.close());
  const failures: string[] = [];
  emulator.on('failure', ({ message }) => failures.push(message));
  const path = join(temporaryFolder(t), 'late.sock');
  emulator.dial({ path });
  await until(() => failures.length === 1);
  t.is(failures[0], `storage emulator at ${path}: ENOENT`);
  let waitedMs = 0;
  while (failures.length < 5) {
    const seen = failures.length;
    clock.advance(10);
    waitedMs += 10;
    if (clock.pending > 0) continue;
    await until(() => failures.length > seen && clock.pending > 0);
  }
  // 100 + 200 + 400 + 800 ms, a quarter more or less.
  t.true(waitedMs > 1000 && waitedMs < 2000, String(waitedMs));
  const server = createServer((socket) => void socket.destroy());
  t.teardown(() => server.close());
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const accepted = once(server, 'connection');
  clock.advance(5000);
  await t.notThrowsAsync(accepted);
});

test('closing an emulator ends its connections and its dialling', async (t) => {
  const [emulator, port] = await listening(t, () => new Promise(() => undefined));
  const socket = createConnection({ host: '127.0.0.1', port });
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.on('error', () => undefined).write('{"argv":["s"]}');
  await new Promise((resolve) => emulator.once('request', resolve));
  await emulator.close();
  await closed;
  t.pass();
});
