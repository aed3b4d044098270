/** The typed client: each method against a control server, and errors without a server. */
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { connectControl } from '../../lib/control/client/client.js';
import type { CopyReport } from '../../lib/services/copy/copy-call.js';
import { EXEC_KIND, encodeExit } from '../../lib/services/exec/exec-messages.js';
import { encodeRecord } from '../../lib/util/bytes/records.js';
import { SUCCESS } from '../helpers/exec-peers.js';
import { temporaryFolder } from '../helpers/files.js';
import { echo, failureOf, localServer, openEcho, portOf, steeredPair } from '../helpers/proxies.js';
import { eventually, within } from '../helpers/time.js';

test('a reader of a job waits for a process that went before its first answer, but not for one that was never there', async (t) => {
  const path = join(temporaryFolder(t), 'control');
  await t.throwsAsync(connectControl(path).attachJob('1f0c92ab').next(), { code: 'exec-unavailable' });
  let count = 0;
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    count += 1;
    socket
      .on('error', () => undefined)
      .once('data', () => {
        if (count < 3) socket.destroy();
        else {
          socket.write('HTTP/1.1 101 Switching Protocols\r\nvproxy-end: /v1/end\r\n\r\n');
          socket.write(encodeRecord(EXEC_KIND.FROM, '{"from":0}'));
          socket.end(encodeExit({ ...SUCCESS, status: 3 }));
        }
      });
  }).listen(path);
  await once(server, 'listening');
  t.teardown(() => server.close());
  const lost: string[] = [];
  const pieces = connectControl(path).attachJob('1f0c92ab', { onLost: ({ code }) => lost.push(code) });
  t.like((await pieces.next()).value, { kind: 'end', result: { status: 3 } });
  t.deepEqual(lost, ['control-unavailable', 'control-unavailable']);
});

async function copies(t: ExecutionContext) {
  const root = temporaryFolder(t);
  const here = temporaryFolder(t);
  const { client, peer } = await steeredPair(t, { peer: { copy: { root } } });
  mkdirSync(join(here, 'tree/inner'), { recursive: true });
  writeFileSync(join(here, 'tree/inner/a'), 'a');
  writeFileSync(join(here, 'tree/big'), Buffer.alloc(20_000_000, 'big'));
  symlinkSync('inner/a', join(here, 'tree/link'));
  return { client, peer, root, tree: join(here, 'tree'), back: join(here, 'back') };
}

test('trees are copied in this process, with progress', async (t) => {
  const { client, root, tree, back } = await copies(t);
  const told: CopyReport[] = [];
  const counts = { files: 2, folders: 2, links: 1, bytes: 20_000_001, resumedBytes: 0 };
  const sent = await client.copyTo(tree, `${root}/`, { onProgress: (report) => told.push(report) });
  t.like(sent, { ...counts, sentBytes: 20_000_001, targets: [join(root, 'tree')], warnings: [] });
  t.like(told.at(-1), { ...counts, totalBytes: 20_000_001, comparing: null });
  mkdirSync(back);
  const fetched = await client.copyFrom([join(root, 'tree/inner'), join(root, 'tree/big')], `${back}/`);
  t.deepEqual(fetched.targets.length, 2);
  t.is(readFileSync(join(back, 'inner/a'), 'utf8'), 'a');
  t.true(readFileSync(join(back, 'big')).equals(readFileSync(join(tree, 'big'))));
  t.is(readlinkSync(join(root, 'tree/link')), 'inner/a');
  await t.throwsAsync(client.copyFrom('/etc/passwd', back), { code: 'denied' });
  await t.throwsAsync(client.copyTo(join(back, 'none'), root), { code: 'copy-failed' });
  await t.throwsAsync(client.copyTo([], root), { code: 'bad-argument' });
  // It would be the working directory.
  await t.throwsAsync(client.copyTo('', `${root}/`), { code: 'bad-argument' });
  await t.throwsAsync(client.copyFrom(join(root, 'tree'), ''), { code: 'bad-argument' });
});

test('a copy that is cancelled leaves nothing, or with keepPart a part that another continues', async (t) => {
  const { client, peer, root, tree, back } = await copies(t);
  const cancelled = async (copy: (signal: AbortSignal) => Promise<unknown>) => {
    const gone = new AbortController();
    const copied = copy(gone.signal);
    // Once some of it has been written.
    await eventually(() => [root, back].some((folder) => existsSync(folder) && readdirSync(folder).length > 0));
    gone.abort();
    await t.throwsAsync(copied, { code: 'cancelled' });
  };
  const noStreams = () => eventually(() => peer.proxy.listStreams().length === 0);
  for (let count = 0; count < 5; count += 1) {
    await cancelled((signal) => client.copyTo(join(tree, 'big'), join(root, 'big'), { signal }));
    await noStreams();
    t.deepEqual(readdirSync(root), []);
  }
  await cancelled((signal) => client.copyTo(join(tree, 'big'), join(root, 'big'), { signal, keepPart: true }));
  await noStreams();
  t.deepEqual(readdirSync(root), ['.big.vproxy-part']);
  const { resumedBytes, sentBytes } = await client.copyTo(join(tree, 'big'), join(root, 'big'), { resume: true });
  t.is(resumedBytes + sentBytes, 20_000_000);
  t.deepEqual(readdirSync(root), ['big']);
  const gone = AbortSignal.abort();
  await t.throwsAsync(client.copyFrom(join(root, 'big'), back, { signal: gone }), { code: 'cancelled' });
  t.false(existsSync(back));
});

test('a copy whose progress is told to a function that throws rejects with that, and leaves nothing', async (t) => {
  const { client, root, tree } = await copies(t);
  // As long as the test likes.
  truncateSync(join(tree, 'big'), 2 ** 36);
  const onProgress = ({ bytes }: CopyReport): void => {
    if (bytes > 0) throw new RangeError('of the program');
  };
  await t.throwsAsync(client.copyTo(join(tree, 'big'), join(root, 'big'), { onProgress }), { instanceOf: RangeError });
  t.deepEqual(readdirSync(root), []);
});

test('without the permission of the peer, a copy is denied', async (t) => {
  const { client } = await steeredPair(t);
  await t.throwsAsync(client.copyFrom('/etc/hostname', temporaryFolder(t)), {
    code: 'denied',
    message: /--allow-copy/,
  });
});

test('each method sends its request and returns the answer', async (t) => {
  const target = await localServer(t, echo);
  const { client, control } = await steeredPair(t, { peer: { incoming: [`echo:${target.port}`] } });
  t.like(await client.status(), { process: { pid: process.pid, name: 'host1' }, forwards: 0, streams: 0 });
  t.like(await client.channels(), [{ label: 'default', state: 'established' }]);
  t.like(await client.channel('default'), { session: { peer: { name: 'b' } } });
  t.like(await client.services(), [{ service: 'echo', offeredBy: 'peer' }]);
  t.regex(await client.metrics(), /^# HELP /m);
  t.deepEqual(await client.config(), { name: 'host1' });
  t.like(await client.ping(), { channel: 'default' });
  t.like(await client.waitFor({ service: 'echo', timeoutS: 5 }), { label: 'default' });
  const message = 'no service ssh on default; the peer offers: echo';
  const late = client.waitFor({ service: 'ssh', channel: 'default', timeoutS: 0.05 });
  await t.throwsAsync(late, { code: 'no-session', message });

  const { id: forward, endpoint } = await client.addForward({ direction: 'outgoing', spec: 'echo:0' });
  t.like(await client.forwards(), [{ id: forward, endpoint }]);
  const failure = failureOf(await openEcho(t, portOf(endpoint)));
  const [stream] = await client.streams();
  t.like(stream, { channel: 'default', forward, sentBytes: 1 });
  await client.closeStream('default', stream?.id ?? 0);
  await failure;
  await client.removeForward(forward, { mode: 'now' });
  t.deepEqual(await client.forwards(), []);
  const address = `unix-connect:${join(temporaryFolder(t), 'x')}`;
  t.like(await client.addChannel({ address, label: 'vm2', outgoing: ['ssh:127.0.0.1:0'] }), { label: 'vm2' });
  t.like(await client.forwards(), [{ channel: 'vm2' }]);
  await client.removeChannel('vm2');
  t.is((await client.channels()).length, 1);

  t.deepEqual(await client.logLevel('debug'), { level: 'debug' });
  t.is(control.process.logLevel, 'debug');
  t.like(await client.reload(), { addedChannels: [] });
  await client.drain({ timeoutS: 7 });
  await client.stop();
  await eventually(() => control.process.told.length === 2);
  t.deepEqual(control.process.told, ['drain 7000', 'stop']);
});

test('an error has the code and the message of the answer', async (t) => {
  const { client } = await steeredPair(t);
  await t.throwsAsync(client.removeForward('f99'), { code: 'not-found', message: /f99/ });
  await t.throwsAsync(client.addForward({ direction: 'incoming', spec: 'x' }), { code: 'bad-argument' });
  await t.throwsAsync(client.waitFor({ service: 'none', timeoutS: 0 }), { code: 'no-session' });
  await t.throwsAsync(client.events({ replay: 1e9 }).next(), { code: 'bad-argument' });
  await t.throwsAsync(client.connect('none'), { code: 'unknown-service' });
  await t.throwsAsync(client.connect('none', { channel: 'vm9' }), { code: 'not-found' });
});

test('events: past ones, new ones, and an orderly end on abort', async (t) => {
  const { client } = await steeredPair(t);
  await client.addForward({ direction: 'outgoing', spec: 'web:127.0.0.1:0' });
  const past = [];
  for await (const { event } of client.events({ follow: false })) past.push(event);
  t.true(past.includes('listening'));
  const enough = new AbortController();
  const seen = [];
  void client.waitFor().then(() => client.addForward({ direction: 'outgoing', spec: 'ssh:127.0.0.1:0' }));
  for await (const { event, fields } of client.events({ replay: 0, signal: enough.signal })) {
    seen.push(event);
    if (event === 'listening') {
      t.is(fields['service'], 'ssh');
      enough.abort();
    }
  }
  // The peer offers no such service.
  t.deepEqual(seen.slice(-2), ['listening', 'service-missing']);
});

test('no server, a server that is not vproxy, and a process that exits without an answer', async (t) => {
  const folder = temporaryFolder(t);
  const unavailable = { code: 'control-unavailable' };
  await t.throwsAsync(connectControl(join(folder, 'none')).status(), unavailable);
  const clientOf = async (name: string, answer: string) => {
    await localServer(t, (socket) => void socket.resume().end(answer), { path: join(folder, name) });
    return connectControl(join(folder, name));
  };
  const wrong = ['SSH-2.0-x\r\n\r\n', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx', 'HTTP/1.1 404 No\r\n\r\n', ''];
  // Valid JSON, but not all of the answer.
  wrong.push('HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}');
  for (const [index, answer] of wrong.entries()) {
    const client = await clientOf(`${index}`, answer);
    await t.throwsAsync(client.status(), unavailable);
    const refused = await t.throwsAsync(client.connect('ssh'), unavailable);
    t.true(refused.message.length < 200);
  }
  const cut = await clientOf('cut', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n');
  const events = cut.events();
  t.deepEqual((await events.next()).value, {} as never);
  await t.throwsAsync(events.next(), unavailable);
});

async function streamTo(t: ExecutionContext, handle: Parameters<typeof localServer>[1]) {
  const target = await localServer(t, handle);
  const pair = await steeredPair(t, { peer: { incoming: [`x:127.0.0.1:${target.port}`] } });
  const stream = await pair.client.connect('x');
  t.teardown(() => stream.destroy());
  return { ...pair, stream };
}

test('a half-closed stream continues in the other direction', async (t) => {
  let got = '';
  const { stream } = await streamTo(t, (socket) => {
    socket.on('data', (chunk: Buffer) => (got += chunk.toString())).on('end', () => socket.destroy());
    socket.end('bye');
  });
  t.is(String((await once(stream, 'data'))[0]), 'bye');
  await once(stream.resume(), 'end');
  await once(stream.end('still here'), 'close');
  t.is(stream.errored, null);
  await eventually(() => got === 'still here');
});

for (const hasEnded of [false, true]) {
  test(`a reset is an error with its code, even ${hasEnded ? 'after' : 'before'} this side half-closes`, async (t) => {
    const { stream } = await streamTo(t, (socket) => {
      socket.write('x');
      socket.resume().once(hasEnded ? 'end' : 'data', () => socket.resetAndDestroy());
    });
    await once(stream, 'data');
    stream.on('data', () => undefined);
    if (hasEnded) stream.end();
    else stream.write('now');
    const [error] = (await once(stream, 'error')) as [Error];
    t.like(error, { code: 'local-error' });
    t.regex(error.message, /ECONNRESET/);
  });
}

test('an abort ends the wait for each answer that may take long', async (t) => {
  const path = join(temporaryFolder(t), 'control');
  let open = 0;
  const server = createServer((socket) => {
    open += 1;
    socket
      .on('error', () => undefined)
      .once('close', () => (open -= 1))
      .resume();
  }).listen(path);
  t.teardown(() => server.close());
  await once(server, 'listening');
  const client = connectControl(path);
  const abort = new AbortController();
  const { signal } = abort;
  const waits = [
    client.upgrade({ signal }),
    client.reload(signal),
    client.testEgress({ name: 'internet', destination: 'example.com' }, signal),
    client.freeze({ signal }),
    client.waitFor({ signal }),
    client.removeChannel('vm1', { signal }),
  ];
  const ended = Promise.allSettled(waits);
  await eventually(() => open === waits.length);
  abort.abort();
  for (const end of await ended) t.like(end, { status: 'rejected', reason: { code: 'cancelled' } });
  await eventually(() => open === 0);
});

test('an abort resets the stream of a call, and ends the reading of a job', async (t) => {
  const { client, peer } = await steeredPair(t, { peer: { exec: { commands: 'any' } } });
  const abort = new AbortController();
  const { signal } = abort;
  const job = await client.startJob(['sh', '-c', 'echo one; exec sleep 60'], { signal });
  const call = await client.exec(['sleep', '60'], { signal, hasInput: false });
  const stream = await client.connect('exec', { signal });
  const pieces = client.attachJob(job.id, { signal });
  t.like((await pieces.next()).value, { kind: 'output', at: 0 });
  const [rest, failure] = [pieces.next(), once(stream, 'error')];
  abort.abort();
  await t.throwsAsync(call.result, { code: 'exec-unavailable', message: /the call was cancelled/ });
  t.like(await failure, [{ code: 'cancelled' }]);
  t.true((await rest).done);
  await t.throwsAsync(client.connect('exec', { signal }), { code: 'cancelled' });
  for (const late of [client.exec(['true'], { signal }), client.jobs({ signal }), client.stopJob(job.id, { signal })])
    await t.throwsAsync(late, { code: 'cancelled' });
  t.like(await client.jobs(), [{ id: job.id, endedAt: null }]);
  await client.stopJob(job.id);
  // Also while the outputs of an ended command are read.
  const later = new AbortController();
  const ended = await client.exec(['echo', 'x'], { signal: later.signal, hasInput: false });
  ended.stdout.on('data', () => ended.stdout.pause());
  await ended.streamEnd;
  later.abort();
  await t.notThrowsAsync(within(10_000, 'its result', ended.result));
  await eventually(() => peer.proxy.listStreams().length === 0, { what: 'the end of all streams' });
});
