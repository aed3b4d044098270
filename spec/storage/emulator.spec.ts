/** Emulators made with `createStorageEmulator`. */
import { once } from 'node:events';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { createStorageEmulator, type StorageHandler } from '../../lib/storage/emulator.js';
import type { StorageRequest } from '../../lib/storage/wire.js';
import { deferred } from '../../lib/util/concurrency.js';
import { temporaryFolder } from '../helpers/files.js';
import { localServer } from '../helpers/local-server.js';
import { attachPort, peerAt, startGuest } from '../helpers/storage.js';
import { eventually, ManualClock } from '../helpers/time.js';

const echo: StorageHandler = ({ argv }) => ({ stdout: `${argv.slice(1).join(' ')}\n` });

/** A listening emulator, with its requests and failures. */
async function listening(t: ExecutionContext, handler: StorageHandler) {
  const emulator = createStorageEmulator(handler);
  t.teardown(() => emulator.close());
  const requests: StorageRequest[] = [];
  const failures: string[] = [];
  emulator.on('request', (request) => requests.push(request));
  emulator.on('failure', ({ code, message }) => failures.push(`${code} ${message}`));
  const address = await emulator.listen({ host: '127.0.0.1', port: 0 });
  return { emulator, port: 'port' in address ? address.port : 0, requests, failures };
}

/** Sends bytes, half-closes, and resolves with the lines of the answer. */
async function ask(port: number, bytes: string): Promise<{ readonly stdout: string; readonly status: number }[]> {
  const socket = createConnection({ host: '127.0.0.1', port, allowHalfOpen: true });
  socket.end(bytes);
  const lines = (await text(socket)).split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as { stdout: string; status: number });
}

test('requests are answered however they are terminated, and invalid ones get an error', async (t) => {
  const { port, requests } = await listening(t, echo);
  for (const [bytes, ...outputs] of [
    ['{"argv":["s","a"]}\n', 'a\n'],
    ['{"argv":["s","a"]}', 'a\n'],
    ['{"argv":["s","a"]}{"argv":["s","b"]}\n{"argv":["s","c"]}', 'a\n', 'b\n', 'c\n'],
    ['{\n  "argv": [\n    "s",\n    "a"\n  ]\n}\n', 'a\n'],
    [`{"argv":["s","${'x'.repeat(100_000)}"]}\n`, `${'x'.repeat(100_000)}\n`],
    [''],
  ] as const)
    t.deepEqual(
      (await ask(port, bytes)).map(({ stdout }) => stdout),
      outputs,
      bytes.slice(0, 60),
    );
  requests.length = 0;
  const answers = await ask(port, 'hello\n{"argv":["s","x"],"vm":"n1"}');
  t.like(answers, [
    { stdout: '', status: 126 },
    { stdout: 'x\n', status: 0 },
  ]);
  t.deepEqual(requests, [{ argv: ['s', 'x'], vm: 'n1' }]);
});

test('a request without a terminator is answered while the connection stays open', async (t) => {
  const socket = createConnection((await listening(t, echo)).port, '127.0.0.1');
  t.teardown(() => socket.destroy());
  for (const word of ['one', 'two']) {
    socket.write(`{"argv":["s","${word}"]}`);
    const [reply] = (await once(socket, 'data')) as [Buffer];
    t.is(reply.toString(), `{"stdout":"${word}\\n","stderr":"","status":0}\n`);
  }
});

test('connections are served concurrently, the requests of each in order', async (t) => {
  const waiting: (() => void)[] = [];
  const { port } = await listening(t, async (request) => {
    await new Promise<void>((resolve) => waiting.push(resolve));
    return echo(request);
  });
  const answers = ['a', 'b', 'c'].map((name) => ask(port, `{"argv":["s","${name}1"]}{"argv":["s","${name}2"]}`));
  for (let round = 0; round < 2; round += 1) {
    await eventually(() => waiting.length === 3);
    for (const resolve of waiting.splice(0)) resolve();
  }
  const outputs = (await Promise.all(answers)).flat().map(({ stdout }) => stdout);
  t.deepEqual(outputs, ['a1\n', 'a2\n', 'b1\n', 'b2\n', 'c1\n', 'c2\n']);
});

test('a request over the limit, and a handler that throws, end only their connection', async (t) => {
  const { port, failures } = await listening(t, (request) => {
    if (request.argv[1] === 'throw') throw new Error('no such controller');
    return request.argv[1] === 'status' ? { status: 1000 } : echo(request);
  });
  const socket = createConnection(port, '127.0.0.1');
  socket.on('error', () => undefined).write(`{"argv":["s","${'x'.repeat(1024 * 1024)}"]}`);
  await new Promise((resolve) => socket.once('close', resolve).resume());
  const guest = await startGuest(t, { peer: peerAt(port) });
  await t.throwsAsync(guest.call('throw'), { code: 'storage-unavailable', message: /hung up without a reply/ });
  await t.throwsAsync(guest.call('status'), { code: 'storage-unavailable' });
  t.is(await guest.print('x'), 'x\n');
  t.regex(failures.join('\n'), /^storage-bad-request .*\n\S+ no such controller\n\S+ .*exit status 1000.*$/);
});

test('binary output arrives byte for byte, and every exit status', async (t) => {
  const bytes = Buffer.from(Array.from({ length: 512 }, (_, index) => index & 255));
  const { port } = await listening(t, ({ argv }) => ({ stdout: bytes, stderr: bytes, status: Number(argv[1]) }));
  const guest = await startGuest(t, { peer: peerAt(port), parallel: 8 });
  const replies = await Promise.all(Array.from({ length: 256 }, (_, status) => guest.call(String(status))));
  const expected = replies.map((_, status) => ({ stdout: bytes, stderr: bytes, status }));
  t.deepEqual(replies, expected);
});

test('a dialling emulator answers, and reconnects when its connection ends', async (t) => {
  const guest = await startGuest(t);
  const clock = new ManualClock();
  const emulator = createStorageEmulator(
    (request) => (request.argv[1] === 'die' ? Promise.reject(new Error('dead')) : echo(request)),
    { clock },
  );
  t.teardown(() => emulator.close());
  emulator.dial({ host: '127.0.0.1', port: await attachPort(t, guest) });
  t.is(await guest.print('one'), 'one\n');
  await t.throwsAsync(guest.call('die'), { code: 'storage-unavailable' });
  const next = guest.print('two');
  await eventually(() => (clock.advance(50), guest.broker.emulators.attachedCount === 1));
  t.is(await next, 'two\n');
});

test('a dialling emulator retries while nothing listens, with back-off', async (t) => {
  const clock = new ManualClock();
  const emulator = createStorageEmulator(echo, { clock });
  t.teardown(() => emulator.close());
  const failures: string[] = [];
  emulator.on('failure', ({ message }) => failures.push(message));
  const path = join(temporaryFolder(t), 'late.sock');
  emulator.dial({ path });
  let waitedMs = 0;
  for (let tries = 1; tries < 5; tries += 1) {
    await eventually(() => failures.length === tries && clock.pending > 0, { intervalMs: 2 });
    for (; clock.pending > 0; waitedMs += 10) clock.advance(10);
  }
  t.is(failures[0], `storage emulator at ${path}: ENOENT`);
  // 100 + 200 + 400 + 800 ms, ± 25 %.
  t.true(waitedMs > 1000 && waitedMs < 2000, String(waitedMs));
  await eventually(() => clock.pending > 0);
  const accepted = deferred();
  await localServer(t, () => accepted.resolve(), { path });
  clock.advance(5000);
  await t.notThrowsAsync(accepted.promise);
});

test('closing an emulator ends its connections and its dialling', async (t) => {
  const { emulator, port } = await listening(t, () => new Promise(() => undefined));
  const socket = createConnection(port, '127.0.0.1');
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.on('error', () => undefined).write('{"argv":["s"]}');
  await new Promise((resolve) => emulator.once('request', resolve));
  await emulator.close();
  await t.notThrowsAsync(closed);
});
