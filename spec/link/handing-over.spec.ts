/** Links and listeners that are handed over in the middle of the bytes. That real processes do so is shown by `vproxy upgrade`. */
import { once } from 'node:events';
import net from 'node:net';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { parseChannel } from '../../lib/channel/address/address.js';
import type { ChannelListener } from '../../lib/channel/kind.js';
import { DuplexLink } from '../../lib/link/duplex-link.js';
import type { Link } from '../../lib/link/link.js';
import { restoreSocketLink, SocketLink } from '../../lib/link/socket-link.js';
import { readBuffered } from '../../lib/system/sockets/node-sockets.js';
import { deferred } from '../../lib/util/concurrency.js';
import { ChangeHere, patternFrom } from '../helpers/change-here.js';
import { dial, duplexPair, LinkRecorder, listen } from '../helpers/channel-pair.js';
import { sha256, temporaryFolder } from '../helpers/files.js';
import { localServer, localSocket } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { unixPair } from '../helpers/unix-pair.js';

/** As much as no socket takes at once. */
const BYTES = 8 * 2 ** 20;

/** What comes of a socket, which is read when it is resumed. */
function collect(socket: net.Socket): { readonly bytes: () => Buffer } {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => undefined);
  socket.pause();
  return { bytes: () => Buffer.concat(chunks) };
}

/** Writes `BYTES` of the pattern, in single pieces and in several at a time, whatever the link takes. */
function writePattern(link: Link, from: number): void {
  const quarters = [0, 1, 2, 3].map((index) => patternFrom(from + (index * BYTES) / 4, BYTES / 4));
  const [first, second, third, fourth] = quarters as [Buffer, Buffer, Buffer, Buffer];
  link.write(first);
  link.writeParts([second, third]);
  link.write(fourth);
}

/** A link of a channel, its other end, and the listener where there is one. */
interface Scene {
  readonly channel: string;
  readonly link: Link;
  readonly peer: net.Socket;
  readonly listener?: ChannelListener;
}

/** A link that is dialled to a server of the test. */
async function dialled(t: ExecutionContext, path: string | undefined, name: string): Promise<Scene> {
  const options = { allowHalfOpen: true, pauseOnConnect: true };
  const server = await localServer(t, () => undefined, path === undefined ? undefined : { path }, options);
  const accepted = once(server, 'connection') as Promise<[net.Socket]>;
  const channel = `${name}:${path ?? `127.0.0.1:${server.port}`}`;
  const link = await dial(t, channel);
  const [peer] = await accepted;
  return { channel, link, peer };
}

/** A link that is accepted from a socket of the test. */
async function accepted(t: ExecutionContext, channel: string): Promise<Scene> {
  const arrived = deferred<Link>();
  const listener = await listen(t, channel, { onLink: (link) => arrived.resolve(link) });
  const peer = localSocket(t, { ...targetOf(listener), allowHalfOpen: true });
  const link = await arrived.promise;
  // Whoever closes a unix socket in this process removes its file: spec/cli/upgrade-state.spec.ts has such a listener go on.
  const isUnix = channel.startsWith('unix');
  return { channel: listener.description, link, peer, ...(!isUnix && { listener }) };
}

/** Where a listener listens. */
function targetOf({ description }: ChannelListener): net.NetConnectOpts {
  const [, host = '', port] = /^[a-z-]+:(.*?)(?::(\d+))?$/.exec(description) ?? [];
  return port === undefined ? { path: host } : { host, port: Number(port) };
}

const KINDS: Readonly<Record<string, (t: ExecutionContext) => Promise<Scene>>> = {
  'unix-connect': (t) => dialled(t, join(temporaryFolder(t), 'channel.sock'), 'unix-connect'),
  'tcp-connect': (t) => dialled(t, undefined, 'tcp-connect'),
  'unix-listen': (t) => accepted(t, `unix-listen:${join(temporaryFolder(t), 'channel.sock')}`),
  'tcp-listen': (t) => accepted(t, 'tcp-listen:127.0.0.1:0'),
};

for (const [name, makeScene] of Object.entries(KINDS)) {
  test(`${name}: a link goes on with what was unwritten, and its listener accepts as before`, async (t) => {
    const { channel, link, peer, listener } = await makeScene(t);
    const { kind, address } = parseChannel(channel);
    const change = await ChangeHere.prepare();
    const received = collect(peer);
    const before = new LinkRecorder();
    link.start(before);
    peer.write('first');
    await before.received(5);
    writePattern(link, 0);
    await setImmediate();
    t.true(link.unwrittenBytes > 2 ** 20);
    // This comes while the one side ends and the other one begins.
    peer.write(' then more');
    const capture = change.end({
      link: link.capture?.(change.keep) ?? null,
      listener: listener?.capture?.(change.keep) ?? null,
    });
    const restored = capture.link === null ? null : (kind.restoreLink?.(capture.link, change.take) ?? null);
    if (restored === null) throw new Error('there is no link');
    t.teardown(() => restored.destroy());
    t.is(restored.description, link.description);
    // What is written before the start comes behind what was left.
    writePattern(restored, BYTES);
    const after = new LinkRecorder();
    restored.start(after);
    if (listener !== undefined && kind.mode === 'listen') {
      const others = deferred<Link>();
      const handlers = {
        onLink: (other: Link) => others.resolve(other),
        onFailed: (error: Error) => t.fail(error.message),
      };
      const next = await kind.listen(address, handlers, change.take(capture.listener ?? -1));
      t.is(next.description, listener.description);
      localSocket(t, targetOf(next));
      (await others.promise).close();
      await next.close();
    }
    peer.resume();
    await eventually(() => received.bytes().length >= 2 * BYTES);
    await after.drained();
    t.is(sha256(received.bytes()), sha256(patternFrom(0, 2 * BYTES)));
    peer.end(' and the end');
    await after.received(' then more and the end'.length);
    t.is(String(Buffer.concat([before.bytes, after.bytes])), 'first then more and the end');
  });
}

test('a capture has what was read and not delivered, and what the link says of itself', async (t) => {
  const { near, far } = await unixPair(t);
  const firstBytes = Buffer.from('read before');
  const options = { firstBytes, origin: '10.0.0.1', mayBeStuck: true };
  const link = new SocketLink('vsock-mux-connect:x', (onread) => readBuffered(near, onread), options);
  const kept: number[] = [];
  const capture = link.capture((fd) => kept.push(fd) - 1);
  t.like(capture, {
    description: 'vsock-mux-connect:x',
    descriptors: [0],
    firstBytes,
    origin: '10.0.0.1',
    mayBeStuck: true,
    bufferBytes: null,
  });
  t.is(capture?.unwritten.length, 0);
  // Nothing has changed: it goes on.
  const recorder = new LinkRecorder();
  link.start(recorder);
  far.end(' and behind');
  await eventually(() => recorder.closings.length > 0);
  t.is(Buffer.concat(recorder.pieces).toString(), 'read before and behind');
  t.is(
    link.capture(() => 0),
    null,
  );
});

test('a restored link writes nothing before its start, and then what was left before what came since', async (t) => {
  const { near, far } = await unixPair(t);
  const change = await ChangeHere.prepare();
  const capture = new SocketLink('x', (onread) => readBuffered(near, onread)).capture(change.keep);
  if (capture === null) throw new Error('it cannot be handed over');
  const received = collect(far);
  far.resume();
  const link = restoreSocketLink(change.end({ ...capture, unwritten: Buffer.from('left ') }), change.take);
  t.false(link.write(Buffer.from('since ')));
  t.false(link.writeParts([Buffer.from('and '), Buffer.from('so on')]));
  for (let turn = 0; turn < 10; turn += 1) await setImmediate();
  t.is(received.bytes().toString(), '');
  t.is(String(link.capture(() => 0)?.unwritten), 'left since and so on');
  const recorder = new LinkRecorder();
  link.start(recorder);
  await eventually(() => received.bytes().toString() === 'left since and so on');
  await eventually(() => recorder.drainCount > 0);
  link.destroy();
});

test('capturing again and again while a link writes and reads changes nothing', async (t) => {
  const { near, far } = await unixPair(t);
  const link = new SocketLink('x', () => near);
  const recorder = new LinkRecorder();
  link.start(recorder);
  const received = collect(far);
  const pattern = patternFrom(0, BYTES);
  let written = 0;
  const look = (): void => {
    const capture = link.capture(() => 0);
    const unwritten = capture?.unwritten ?? Buffer.alloc(0);
    t.true(unwritten.equals(pattern.subarray(written - unwritten.length, written)));
  };
  for (let step = 65_536; written < BYTES; written += step) {
    link.writeParts([
      pattern.subarray(written, written + step / 2),
      pattern.subarray(written + step / 2, written + step),
    ]);
    if (written === 2 ** 21) far.resume();
    if (written >= 2 ** 21) await setImmediate();
    written += step;
    look();
    written -= step;
  }
  await eventually(() => received.bytes().length === BYTES);
  t.is(sha256(received.bytes()), sha256(pattern));
  t.is(link.capture(() => 0)?.unwritten.length, 0);
  link.destroy();
});

test('what needs more than a descriptor cannot be handed over', async (t) => {
  const { near } = await unixPair(t);
  const link = new SocketLink('x', () => near).beforeClosed((reason) => Promise.resolve(reason));
  t.is(
    link.capture(() => 0),
    null,
  );
  const closing = new SocketLink('x', () => near);
  closing.close();
  t.is(
    closing.capture(() => 0),
    null,
  );
  const [duplex] = duplexPair();
  const other: Link = new DuplexLink('x', duplex);
  t.false('capture' in other);
  const command = await dial(t, 'exec:cat');
  t.is(command.capture?.(() => 0) ?? null, null);
  for (const text of ['exec:cat', 'stdio:', 'fd:3', 'tty-open:/dev/ttyS0'])
    t.false('restoreLink' in parseChannel(text).kind);
});
