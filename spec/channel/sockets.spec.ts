/** Unix sockets and TCP, AF_VSOCK, and hybrid vsock: errors of dialling and listening, and socket files. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, openSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import type net from 'node:net';
import { constants } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseChannel } from '../../lib/channel/address/address.js';
import {
  encodeVsockAddress,
  type VsockSystem,
  vsockConnectKind,
  vsockListen,
  vsockListenKind,
} from '../../lib/channel/vsock.js';
import { vsockMuxConnectKind } from '../../lib/channel/vsock-mux.js';
import { VproxyError } from '../../lib/errors.js';
import type { Link } from '../../lib/link/link.js';
import { deferred } from '../../lib/util/concurrency.js';
import { dial, listen, loopbackVsock, patiently, record, refuses, vsockPair } from '../helpers/channel-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { answering, firecracker, inPieces } from '../helpers/hybrid-vsock.js';
import { freePort } from '../helpers/ports.js';
import { localServer } from '../helpers/proxies.js';
import { advanceUntil, eventually, ManualClock } from '../helpers/time.js';

/** A process that listens on a socket file. */
async function listener(t: ExecutionContext, file: string, backlog = 511) {
  const options = JSON.stringify({ path: file, backlog });
  const script = `require('net').createServer().listen(${options}, () => console.log('up'))`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  return child;
}

/** A listening channel, and the first link to it. */
async function listenForOne(t: ExecutionContext, text: string) {
  const accepted = deferred<Link>();
  const listening = await listen(t, text, { onLink: (link) => accepted.resolve(link) });
  t.teardown(async () => (await accepted.promise).destroy());
  return { listening, accepted: accepted.promise };
}

test('a socket can be dialled, also behind a permitted link; anything else has its own error', async (t) => {
  const folder = temporaryFolder(t);
  const at = (name: string): string => join(folder, name);
  const unix = (name: string, isFollowed = true) =>
    dial(t, `unix-connect:${at(name)}`, { ...patiently(), ...(isFollowed ? {} : { followsLinks: false }) });
  let accepted = 0;
  await listen(t, `unix-listen:${at('socket')}`, {
    onLink: (link) => {
      accepted += 1;
      link.destroy();
    },
  });
  symlinkSync('socket', at('link'));
  writeFileSync(at('regular'), '');
  const child = await listener(t, at('stale'));
  child.kill('SIGKILL');
  await once(child, 'exit');
  await unix('link');
  await unix('socket', false);
  await refuses(t, unix('link', false), 'channel-unusable', 'a symbolic link');
  for (const isFollowed of [true, false]) {
    await refuses(t, unix('regular', isFollowed), 'channel-unusable', 'not a socket');
    await refuses(t, unix('none', isFollowed), 'channel-missing', at('none'));
    await refuses(t, unix('stale', isFollowed), 'channel-refused', at('stale'));
  }
  await refuses(t, dial(t, `tcp-connect:127.0.0.1:${await freePort()}`), 'channel-refused', '127.0.0.1:');
  // After these, another one is certain to be accepted.
  await unix('socket');
  await eventually(() => accepted === 3, { what: 'the third' });
  // A socket file left by a dead listener is replaced.
  await listen(t, `unix-listen:${at('stale')}`);
  await unix('stale');
});

test('cancelled dialling rejects with shutdown, before and during the attempt', async (t) => {
  const aborted = { ...patiently(), signal: AbortSignal.abort() };
  await refuses(t, dial(t, 'tcp-connect:127.0.0.1:1', aborted), 'shutdown', 'cancelled');
  const abort = new AbortController();
  const { description } = await listen(t, 'tcp-listen:127.0.0.1:0');
  const attempt = dial(t, description.replace('listen', 'connect'), { ...patiently(), signal: abort.signal });
  abort.abort();
  await refuses(t, attempt, 'shutdown', 'cancelled');
});

test.serial('creating a socket file does not change the umask', async (t) => {
  const folder = temporaryFolder(t);
  const modeOf = (name: string): number => {
    writeFileSync(join(folder, name), '', { mode: 0o666 });
    return statSync(join(folder, name)).mode;
  };
  const before = modeOf('before');
  await listen(t, `unix-listen:${folder}/channel.sock`);
  t.is(modeOf('after'), before);
});

test('a socket file has mode 0600 before anyone can connect', async (t) => {
  const file = join(temporaryFolder(t), 'channel.sock');
  const opening = listen(t, `unix-listen:${file}`);
  while (!existsSync(file)) await new Promise((resolve) => setImmediate(resolve));
  t.is(statSync(file).mode & 0o777, 0o600);
  await opening;
  t.is(statSync(file).mode & 0o777, 0o600);
});

test('a socket file whose listener is too busy to answer is not stolen', async (t) => {
  const file = join(temporaryFolder(t), 'busy');
  const child = await listener(t, file, 1);
  child.kill('SIGSTOP');
  const fill = async () => {
    for (;;) await dial(t, `unix-connect:${file}`);
  };
  await refuses(t, fill(), 'channel-busy', 'accept backlog is full');
  await refuses(t, listen(t, `unix-listen:${file}`), 'address-in-use', 'already in use by ');
});

test('a file that is not a socket is neither replaced nor removed, and a symbolic link is not followed', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'notes'), 'precious');
  symlinkSync('notes', join(folder, 'link'));
  for (const name of ['notes', 'link'])
    await refuses(t, listen(t, `unix-listen:${folder}/${name}`), 'address-in-use', 'not a socket');
  t.is(readFileSync(join(folder, 'notes'), 'utf8'), 'precious');
});

test('an address in use and an unavailable one have codes of their own', async (t) => {
  const folder = temporaryFolder(t);
  const { description } = await listen(t, 'tcp-listen:127.0.0.1:0');
  await listen(t, `unix-listen:${folder}/live`);
  await refuses(t, listen(t, description), 'address-in-use', '127.0.0.1:');
  await refuses(t, listen(t, `unix-listen:${folder}/live`), 'address-in-use', 'already in use by this process');
  await dial(t, `unix-connect:${folder}/live`);
  await refuses(t, listen(t, 'tcp-listen:192.0.2.1:0'), 'address-unavailable', '192.0.2.1');
  await refuses(t, listen(t, `unix-listen:${folder}/none/c`), 'address-unavailable', 'its folder');
});

test('closing a listener removes its socket file and leaves its links', async (t) => {
  const file = join(temporaryFolder(t), 'channel.sock');
  const { listening, accepted } = await listenForOne(t, `unix-listen:${file}`);
  const dialled = await dial(t, `unix-connect:${file}`);
  const recorder = record(await accepted);
  await listening.close();
  t.false(existsSync(file));
  dialled.write(Buffer.from('still here'));
  await recorder.received(10);
  t.is(String(recorder.bytes), 'still here');
  t.is(dialled.description, `unix-connect:${file}`);
});

test('descriptions name the kind, the chosen port, and the client', async (t) => {
  const { listening, accepted } = await listenForOne(t, 'tcp-listen:127.0.0.1:0');
  t.regex(listening.description, /^tcp-listen:127\.0\.0\.1:[1-9]\d*$/);
  const text = listening.description.replace('listen', 'connect');
  t.is((await dial(t, text)).description, text);
  t.regex((await accepted).description, /^tcp-listen:127\.0\.0\.1:\d+ from 127\.0\.0\.1:\d+$/);
});

test('which listeners are private', (t) => {
  const local = ['127.0.0.1', '127.9.9.9', 'localhost', '[::1]', '[0:0:0:0:0:0:0:1]'];
  const others = ['0.0.0.0', '[::]', '10.0.0.1', '128.0.0.1', 'localhost.example.com'];
  for (const text of ['unix-listen:/a', ...[...local, ...others].map((host) => `tcp-listen:${host}:0`)]) {
    const { kind, address } = parseChannel(text);
    const isPrivate = kind.mode === 'listen' && kind.isPrivate(address);
    t.is(isPrivate, !others.some((host) => text.endsWith(`:${host}:0`)), text);
  }
});

// AF_VSOCK.

const HANDLERS = { onLink: () => undefined, onFailed: () => undefined };

test('an address is encoded as struct sockaddr_vm', (t) => {
  t.is(encodeVsockAddress({ cid: 2, port: 0x01020304 }).toString('hex'), '28000000040302010200000000000000');
  t.is(encodeVsockAddress({ cid: 0xffffffff, port: 1 }).toString('hex'), '2800000001000000ffffffff00000000');
});

test('a port in use and one without a listener have codes of their own, and no descriptor leaks', async (t) => {
  const { port } = await localServer(t, () => undefined);
  const descriptors = readdirSync('/proc/self/fd').length;
  await t.throwsAsync(vsockListenKind(loopbackVsock).listen(port, HANDLERS), {
    code: 'address-in-use',
    message: /vsock-listen:\d+: .*EADDRINUSE/,
  });
  const nobody = { cid: 1, port: await freePort() };
  await t.throwsAsync(vsockConnectKind(loopbackVsock).dial(nobody, patiently()), { code: 'channel-refused' });
  await eventually(() => readdirSync('/proc/self/fd').length <= descriptors);
});

test('a connection to vsock-listen has the CID of its other end as its origin', async (t) => {
  const { far } = await vsockPair(t);
  // In an address of IPv4 there are zeros at this place.
  t.is(far.origin, 'CID 0');
});

/** A system whose connections complete when the test says so; its descriptors are real, so that they can be closed. */
const fakeSystem = (changes: Partial<VsockSystem>) => () =>
  Promise.resolve<VsockSystem>({
    socket: () => openSync('/dev/null', 'r'),
    connect: () => -constants.errno.EINPROGRESS,
    bind: () => 0,
    pendingError: () => 0,
    isWritable: () => false,
    peerCid: () => null,
    ...changes,
  });

const { ECONNRESET, ENODEV, EAFNOSUPPORT, EACCES } = constants.errno;
const reset = { isWritable: () => true, pendingError: () => ECONNRESET };
for (const [what, changes, code, message] of [
  ['nobody listens', reset, 'channel-refused', /connection refused/],
  ['no such machine', { connect: () => -ENODEV }, 'channel-missing', /no machine with that CID/],
  ['no vsock', { socket: () => -EAFNOSUPPORT }, 'channel-failed', /AF_VSOCK is missing/],
  ['no permission', { connect: () => -EACCES }, 'channel-denied', /EACCES/],
] as const) {
  test(`vsock-connect where there is ${what}`, async (t) => {
    const kind = vsockConnectKind(fakeSystem(changes));
    await t.throwsAsync(kind.dial({ cid: 3, port: 9 }, patiently()), { code, message });
  });
}

test('a pending connection does not block the event loop, and is dropped after 5 s or when cancelled', async (t) => {
  const clock = new ManualClock();
  let looks = 0;
  const kind = vsockConnectKind(fakeSystem({ isWritable: () => (looks += 1) < 0 }), clock);
  const dialling = (context = patiently()) => kind.dial({ cid: 3, port: 9 }, context);
  await advanceUntil(clock, t.throwsAsync(dialling(), { code: 'channel-failed', message: /ETIMEDOUT/ }));
  t.true(looks > 90 && looks < 130, `${looks} looks`);
  const stop = new AbortController();
  const given = t.throwsAsync(dialling({ ...patiently(), signal: stop.signal }), { code: 'shutdown' });
  stop.abort();
  await advanceUntil(clock, given);
  t.is(clock.pending, 0);
});

test('without koffi both name the package to install, and an alternative', async (t) => {
  const absent = (description: string, instead: string) =>
    Promise.reject(new VproxyError('channel-unusable', `${description}: koffi; ${instead}`));
  await t.throwsAsync(vsockConnectKind(absent).dial({ cid: 2, port: 9 }, patiently()), {
    code: 'channel-unusable',
    message: 'vsock-connect:2:9: koffi; exec:socat - VSOCK-CONNECT:2:9',
  });
  await t.throwsAsync(vsockListenKind(absent).listen(9, HANDLERS), {
    message: 'vsock-listen:9: koffi; exec:socat - VSOCK-LISTEN:9',
  });
  t.true(vsockListen.isPrivate(9));
});

// Hybrid vsock.

const vmmOf = (t: ExecutionContext): string => join(temporaryFolder(t), 'vmm');

test('the line is one write, an answer may come in pieces, and data after it belongs to the channel', async (t) => {
  const [whole, pieces] = [vmmOf(t), vmmOf(t)];
  const requests = await firecracker(t, whole, { 7: (socket) => socket.write('hello') });
  await answering(t, pieces, (socket) => inPieces(socket, ['O', 'K 10', '73741824', '\nhel', 'lo']));
  for (const path of [whole, pieces]) {
    const handler = record(await dial(t, `vsock-mux-connect:${path}:7`));
    await handler.received(5);
    t.is(handler.bytes.toString(), 'hello');
  }
  t.deepEqual(requests, [{ line: 'CONNECT 7\n', early: '' }]);
});

const NOBODY = /connection refused: no listener on port 7$/;
for (const [what, answer, code, message] of [
  ['a bare close', (socket: net.Socket) => socket.destroy(), 'channel-refused', NOBODY],
  ['an orderly end', (socket: net.Socket) => socket.end(), 'channel-refused', NOBODY],
  ['another answer', (socket: net.Socket) => socket.write('\u001b[2J\n'), 'channel-failed', /answered "\\x1b\[2J"/],
  ['an endless answer', (socket: net.Socket) => socket.write('OK'.repeat(99)), 'channel-failed', /more than a line/],
] as const) {
  test(`${what} is ${code}`, async (t) => {
    const path = vmmOf(t);
    await answering(t, path, (socket) => void answer(socket));
    await t.throwsAsync(dial(t, `vsock-mux-connect:${path}:7`), { code, message });
  });
}

test('no answer within 5 s is channel-failed, no socket channel-missing, and dialling can be cancelled', async (t) => {
  const path = vmmOf(t);
  let asked = 0;
  await answering(t, path, () => void (asked += 1));
  const clock = new ManualClock();
  const late = vsockMuxConnectKind(clock).dial({ path, port: 7 }, patiently());
  const failure = t.throwsAsync(late, { code: 'channel-failed', message: /no answer to CONNECT within 5 s/ });
  await eventually(() => asked === 1);
  clock.advance(5000);
  await failure;
  t.is(clock.pending, 0);
  await t.throwsAsync(dial(t, `vsock-mux-connect:${path}.none:7`), { code: 'channel-missing' });
  const stop = new AbortController();
  const attempt = dial(t, `vsock-mux-connect:${path}:7`, { ...patiently(), signal: stop.signal });
  stop.abort();
  await t.throwsAsync(attempt, { code: 'shutdown' });
});
