/** Handing over to a successor: documents, descriptors, messages; and successors that exit, stall, or send invalid data. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, fstatSync, openSync, readdirSync, readFileSync, readSync, writeSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { systemCode, VproxyError } from '../../lib/errors.js';
import { HandoverPipe, loadHandoverCalls, receiveNextMessage } from '../../lib/system/handover-pipe.js';
import { loadLibc } from '../../lib/system/libc.js';
import { descriptorOf } from '../../lib/system/sockets/node-sockets.js';
import { closeAll } from '../../lib/system/unix-messages.js';
import { PROJECT_ROOT, sha256, temporaryFolder } from '../helpers/files.js';
import { localServer, localSocket } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { tcpPair, unixPair } from '../helpers/unix-pair.js';
import type { Kind } from './handover-successor.js';

const PROGRAM = join(PROJECT_ROOT, 'dist/spec/system/handover-successor.js');
const TIMEOUT_MS = 20_000;
const NEVER = new AbortController().signal;

const calls = await loadHandoverCalls();

const openCount = (): number => readdirSync('/proc/self/fd').length;

const fileOf = (fd: number): string => {
  const { dev, ino } = fstatSync(fd);
  return `${dev}:${ino}`;
};

/** The system error code behind the `upgrade-failed` that `call` throws. */
function codeOf(t: ExecutionContext, call: () => unknown): string {
  const error = t.throws(call, { instanceOf: VproxyError, code: 'upgrade-failed' });
  return systemCode(error.cause);
}

interface Successor {
  readonly child: ChildProcess;
  readonly stream: net.Socket;
  /** For this turn only. */
  readonly pipe: () => HandoverPipe;
}

/** A successor that does what `what` says; started by `launcher`, if given. */
function startSuccessor(t: ExecutionContext, what: string, launcher: readonly string[] = []): Successor {
  const words = [...launcher, process.execPath, PROGRAM, what];
  const child = spawn(words[0] ?? '', words.slice(1), { stdio: ['pipe', 'inherit', 'inherit', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  const stream = child.stdio[3] as net.Socket;
  stream.on('error', () => undefined);
  return { child, stream, pipe: () => HandoverPipe.ofStream(calls, stream) };
}

/** Both ends of a pipe in this process. */
async function pipePair(t: ExecutionContext) {
  const socketpair = (await loadLibc()).declare('int socketpair(int family, int type, int protocol, void *pair)');
  const fds = Buffer.alloc(8);
  t.is(socketpair(1, 1 | 0o2000000, 0, fds), 0);
  const [near, far] = [fds.readInt32LE(0), fds.readInt32LE(4)];
  return { near, far, sender: new HandoverPipe(calls, near), receiver: new HandoverPipe(calls, far) };
}

/** A descriptor to hand over, how the successor uses it, and the line that it is then seen to write there, if any. */
interface Open {
  readonly fd: number;
  readonly kind: Kind;
  readonly line?: () => Promise<string>;
}

const lineFrom = async (socket: net.Socket): Promise<string> => String(((await once(socket, 'data')) as [Buffer])[0]);

/** Connections. */
async function openConnections(t: ExecutionContext, count: number, open: typeof unixPair): Promise<Open[]> {
  const opened: Open[] = [];
  while (opened.length < count) {
    const { near, far } = await open(t);
    opened.push({ fd: descriptorOf(far) ?? -1, kind: 'stream', line: () => lineFrom(near) });
  }
  return opened;
}

/** Listeners, which this side closes before connecting to them. */
async function openListeners(t: ExecutionContext, count: number): Promise<Open[]> {
  const opened: Open[] = [];
  while (opened.length < count) {
    const server = await localServer(t, () => t.fail('it came to the process that has handed over'));
    const line = async () => {
      const { port } = server;
      server.close();
      const socket = localSocket(t, { host: '127.0.0.1', port });
      const text = await lineFrom(socket);
      socket.destroy();
      return text;
    };
    opened.push({ fd: descriptorOf(server) ?? -1, kind: 'listener', line });
  }
  return opened;
}

function openFifos(t: ExecutionContext, count: number): Open[] {
  const folder = temporaryFolder(t);
  const paths = Array.from({ length: count }, (_, index) => join(folder, `${index}`));
  execFileSync('mkfifo', paths);
  return paths.map((path) => {
    const reading = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const fd = openSync(path, constants.O_WRONLY);
    t.teardown(() => closeAll([reading, fd]));
    const text = Buffer.alloc(100);
    const line = () => eventually(() => text.toString('utf8', 0, readSync(reading, text)) || null);
    return { fd, kind: 'stream', line };
  });
}

function openDevices(t: ExecutionContext, count: number): Open[] {
  return Array.from({ length: count }, () => {
    const fd = openSync('/dev/null', 'r+');
    t.teardown(() => closeSync(fd));
    return { fd, kind: 'device' };
  });
}

test.serial('a thousand descriptors of all kinds arrive in order, and work', async (t) => {
  t.timeout(120_000);
  const count = 200;
  const groups = [
    await openConnections(t, count, tcpPair),
    await openConnections(t, count, unixPair),
    await openListeners(t, count),
    openFifos(t, count),
    openDevices(t, count),
  ];
  // One of each kind in turn.
  const opened = Array.from({ length: count }, (_, index) => groups.flatMap((group) => group[index] ?? [])).flat();
  const before = openCount();
  const { child, stream, pipe } = startSuccessor(t, 'use');
  const first = await receiveNextMessage(stream, NEVER);
  t.like(first, { kind: 'warm', pid: child.pid });
  const fds = opened.map(({ fd }) => fd);
  const document = Buffer.from(JSON.stringify(opened.map(({ kind }) => kind)));
  // In one turn, as in practice.
  const successor = pipe();
  successor.sendAll(document, fds, TIMEOUT_MS);
  const ready = successor.receiveMessage(TIMEOUT_MS);
  successor.sendMessage({ kind: 'go' }, TIMEOUT_MS);
  t.like(ready, { kind: 'ready', sha256: sha256(document), files: fds.map(fileOf), added: fds.length });
  for (const [index, { line }] of opened.entries()) {
    if (line !== undefined) t.is(await line(), `${index}\n`, `descriptor ${index}`);
  }
  const exited = once(child, 'exit');
  child.stdin?.end();
  t.deepEqual(await exited, [0, null]);
  stream.destroy();
  // The listeners' own were closed above.
  await eventually(() => openCount() <= before - count, { what: 'as many descriptors as before' });
});

const statusOf = (pid = 0): string => readFileSync(`/proc/${pid}/status`, 'utf8');

test.serial('100 MB arrive unchanged, even if a signal comes meanwhile', async (t) => {
  const { child, stream, pipe } = startSuccessor(t, 'use');
  await receiveNextMessage(stream, NEVER);
  const waits = () => eventually(() => /^State:\s+S[^]*^ShdPnd:\s+0+$/m.test(statusOf(child.pid)), { what: 'a pause' });
  await waits();
  t.true(child.kill('SIGUSR2'));
  await waits();
  const document = Buffer.alloc(100_000_000);
  for (let at = 0; at < document.length; at += 4096) document.writeUInt32LE(at, at);
  const successor = pipe();
  successor.sendAll(document, [], TIMEOUT_MS);
  const ready = successor.receiveMessage(TIMEOUT_MS);
  t.like(ready, { sha256: sha256(document), added: 0 });
  successor.sendMessage({ kind: 'go' }, TIMEOUT_MS);
});

for (const [what, does, code, timeoutMs] of [
  ['a successor that reads nothing times out', 'ignore', 'ETIMEDOUT', 50],
  ['a successor that exits halfway is reported as exited', 'die', 'EPIPE', TIMEOUT_MS],
] as const) {
  test.serial(what, async (t) => {
    const { stream, pipe } = startSuccessor(t, does);
    await receiveNextMessage(stream, NEVER);
    const before = openCount();
    const sent = codeOf(t, () => pipe().sendAll(Buffer.alloc(10_000_000), [0, 1, 2], timeoutMs));
    t.is(sent, code);
    const received = codeOf(t, () => pipe().receiveMessage(timeoutMs));
    t.is(received, code);
    t.is(openCount(), before);
  });
}

test.serial('a successor with a lower descriptor limit reports it, and keeps none', async (t) => {
  const limited = ['sh', '-c', 'ulimit -n 60; exec "$@"', 'sh'];
  const { stream, pipe } = startSuccessor(t, 'decline', limited);
  await receiveNextMessage(stream, NEVER);
  const fds = openDevices(t, 300).map(({ fd }) => fd);
  pipe().sendAll(Buffer.from('document'), fds, TIMEOUT_MS);
  const answer = pipe().receiveMessage(TIMEOUT_MS);
  t.like(answer, { kind: 'failed', added: 0 });
  t.regex(String(answer.text), /cannot hand over: the other process sent more descriptors than this process may have/);
});

test('an invalid first message, and a successor that exits before it, are told apart', async (t) => {
  const first = async (what: string) => {
    const { stream } = startSuccessor(t, what);
    const error = await t.throwsAsync(receiveNextMessage(stream, NEVER), { code: 'upgrade-failed' });
    return [systemCode(error.cause), error.message];
  };
  t.deepEqual(await first('rubbish'), ['EPROTO', 'cannot hand over: the other process sent an unknown format']);
  t.deepEqual(await first('quit'), ['EPIPE', 'cannot hand over: the other process ended']);
});

test('waiting for the first message can be aborted, and fails if the pipe is closed', async (t) => {
  const { near: stream, far } = await unixPair(t);
  const giveUp = new AbortController();
  const waiting = receiveNextMessage(stream, giveUp.signal);
  giveUp.abort();
  const error = await t.throwsAsync(waiting, { code: 'upgrade-failed' });
  t.is(systemCode(error.cause), 'ETIMEDOUT');
  await t.throwsAsync(receiveNextMessage(stream, giveUp.signal), { message: /did not answer in time/ });
  far.destroy();
  stream.destroy();
  await t.throwsAsync(receiveNextMessage(stream, NEVER), { message: /the other process ended/ });
  const refused = codeOf(t, () => HandoverPipe.ofStream(calls, stream));
  t.is(refused, 'EPIPE');
});

test('a first message may come in pieces, with nothing after it', async (t) => {
  const text = Buffer.from('{"kind":"warm"}');
  const bytes = Buffer.concat([head(text.length, 0), text]);
  const { near, far } = await unixPair(t);
  const waiting = receiveNextMessage(near, NEVER);
  for (const byte of bytes) {
    const read = near.bytesRead;
    far.write(Buffer.of(byte));
    await eventually(() => near.bytesRead > read, { intervalMs: 1 });
  }
  t.deepEqual(await waiting, { kind: 'warm' });
  const { near: other, far: talkative } = await unixPair(t);
  talkative.write(Buffer.concat([bytes, bytes]));
  const error = await t.throwsAsync(receiveNextMessage(other, NEVER), { code: 'upgrade-failed' });
  t.is(systemCode(error.cause), 'EPROTO');
});

/** A header as written. */
function head(byteCount: number, descriptorCount: number): Buffer {
  const bytes = Buffer.from('VPHO\0\0\0\0\0\0\0\0');
  bytes.writeUInt32LE(byteCount, 4);
  bytes.writeUInt32LE(descriptorCount, 8);
  return bytes;
}

const ENDED = /: the other process ended$/;

/** What is sent: a header, then pieces of so many bytes with so many descriptors; and the message that the receiver throws. */
const WRONG: readonly (readonly [what: string, head: Buffer | null, pieces: string, message: RegExp])[] = [
  ['the pipe ends at once', null, '', ENDED],
  ['the pipe ends in the header', Buffer.from('VPHO'), '', ENDED],
  ['the pipe ends before the descriptors', head(4, 2), '', ENDED],
  ['the pipe ends in the document', head(4, 2), '1+2 3', ENDED],
  ['there are fewer descriptors', head(4, 2), '1+1 4', /sent 1 descriptors, expected 2$/],
  ['there are more descriptors', head(4, 2), '1+3 4', /sent 3 descriptors, expected 2$/],
  ['descriptors come in the document', head(4, 0), '4+1', /sent 1 descriptors, expected 0$/],
  ['there are too many descriptors', head(4, 65_537), '', /sent 65537 descriptors$/],
  ['the document is too long', head(2 ** 31 + 1, 0), '', /sent a document of 2147483649 bytes$/],
  ['the header is invalid', Buffer.from('what is this'), '', /sent an unknown format$/],
];

for (const [what, first, pieces, message] of WRONG) {
  test.serial(`if ${what}, nothing is taken, and no descriptor stays open`, async (t) => {
    const { near, far, receiver } = await pipePair(t);
    const before = openCount();
    if (first !== null) calls.send(near, first, []);
    for (const [, bytes, count = 0] of pieces.matchAll(/(\d+)(?:\+(\d+))?/g))
      calls.send(near, Buffer.alloc(Number(bytes)), new Array<number>(Number(count)).fill(0));
    closeSync(near);
    const error = t.throws(() => receiver.receiveAll(TIMEOUT_MS), { code: 'upgrade-failed', message });
    t.is(systemCode(error.cause), message.source.includes('ended') ? 'EPIPE' : 'EPROTO');
    t.is(openCount(), before - 1);
    closeSync(far);
  });
}

test.serial('messages are bounded JSON objects, without descriptors', async (t) => {
  const { near, far, sender, receiver } = await pipePair(t);
  sender.sendMessage({ kind: 'ready', text: 'ä'.repeat(1000) }, TIMEOUT_MS);
  t.deepEqual(receiver.receiveMessage(TIMEOUT_MS), { kind: 'ready', text: 'ä'.repeat(1000) });
  const parcels = ['[1]', 'null', '{', '"x"'].map((text) => Buffer.concat([head(text.length, 0), Buffer.from(text)]));
  for (const wrong of [...parcels, head(65_537, 0), head(2, 1)]) {
    writeSync(near, wrong);
    const code = codeOf(t, () => receiver.receiveMessage(TIMEOUT_MS));
    t.is(code, 'EPROTO', wrong.toString('latin1'));
  }
  closeAll([near, far]);
});

test.serial('received descriptors are not inherited by programs', async (t) => {
  const { near, far, sender, receiver } = await pipePair(t);
  sender.sendAll(Buffer.from('x'), [0], TIMEOUT_MS);
  const { document, descriptors } = receiver.receiveAll(TIMEOUT_MS);
  t.is(String(document), 'x');
  const [fd = -1] = descriptors;
  t.is(fileOf(fd), fileOf(0));
  const flags = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '';
  t.not(Number.parseInt(flags, 8) & 0o2000000, 0);
  closeAll([near, far, fd]);
});

test('a parcel that cannot be sent is rejected with the reason', async (t) => {
  const { near, far, sender } = await pipePair(t);
  t.throws(() => sender.sendAll(Buffer.alloc(1), new Array<number>(65_537).fill(0), 50), {
    code: 'upgrade-failed',
    message: 'cannot hand over: too many descriptors: 65537 (max 65536)',
  });
  t.throws(() => sender.sendAll(Buffer.alloc(1), [999_999], 50), {
    code: 'upgrade-failed',
    message: /^cannot hand over: .*EBADF/,
  });
  closeAll([near, far]);
});

test('without koffi a single error names what is missing', async (t) => {
  const missing = () => Promise.reject(new Error("Cannot find package 'koffi'"));
  await t.throwsAsync(loadHandoverCalls(missing), {
    code: 'upgrade-failed',
    message: /^handing over needs the optional package koffi, .*\(npm install koffi\): Cannot find package 'koffi'$/,
  });
});
