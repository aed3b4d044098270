/** Links and listeners handed over in mid-transfer. The specs of `vproxy upgrade` show the same with real processes. */
import { once } from 'node:events';
import net from 'node:net';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { parseChannel } from '../../lib/channel/address/address.js';
import type { ChannelListener } from '../../lib/channel/kind.js';
import { DuplexLink } from '../../lib/link/duplex-link.js';
import type { Link } from '../../lib/link/link.js';
import { restoreSocketLink, SocketLink, type SocketLinkOptions } from '../../lib/link/socket-link.js';
import { readBuffered } from '../../lib/system/sockets/node-sockets.js';
import { deferred } from '../../lib/util/concurrency.js';
import { ChangeHere, patternFrom } from '../helpers/change-here.js';
import { dial, duplexPair, listen, record } from '../helpers/channel-pair.js';
import { sha256, temporaryFolder } from '../helpers/files.js';
import { localServer, localSocket } from '../helpers/proxies.js';
import { unixPair } from '../helpers/unix-pair.js';

/** More than a socket takes at once. */
const BYTES = 8 * 2 ** 20;

/** The bytes of a socket, which is read once it is resumed. */
function collect(socket: net.Socket) {
  const chunks: Buffer[] = [];
  let size = 0;
  let look = (): void => undefined;
  socket
    .on('error', () => undefined)
    .on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      size += chunk.length;
      look();
    });
  socket.pause();
  /** Resolves with everything once this much has come. */
  const until = (bytes: number): Promise<Buffer> =>
    new Promise((resolve) => {
      look = () => {
        if (size >= bytes) resolve(Buffer.concat(chunks));
      };
      look();
    });
  return { until };
}

/** Writes `BYTES` of the pattern, in single pieces and in several at a time, however much the link takes. */
function writePattern(link: Link, from: number): void {
  const [first, ...middle] = [0, 1, 2, 3].map((index) => patternFrom(from + (index * BYTES) / 4, BYTES / 4));
  const last = middle.pop();
  if (first !== undefined) link.write(first);
  link.writeParts(middle);
  if (last !== undefined) link.write(last);
}

/** A link of a channel, its other end, and the listener if there is one to continue. */
interface Scene {
  readonly channel: string;
  readonly link: Link;
  readonly peer: net.Socket;
  readonly listener?: ChannelListener;
}

/** A link dialled to a server of the test. */
async function dialled(t: ExecutionContext, kind: string, path?: string): Promise<Scene> {
  const options = { allowHalfOpen: true, pauseOnConnect: true };
  const server = await localServer(t, () => undefined, path === undefined ? undefined : { path }, options);
  const connection = once(server, 'connection') as Promise<[net.Socket]>;
  const channel = `${kind}:${path ?? `127.0.0.1:${server.port}`}`;
  const link = await dial(t, channel);
  const [peer] = await connection;
  return { channel, link, peer };
}

/** A link accepted from a socket of the test. */
async function accepted(t: ExecutionContext, channel: string): Promise<Scene> {
  const arrived = deferred<Link>();
  const listener = await listen(t, channel, { onLink: (link) => arrived.resolve(link) });
  const peer = localSocket(t, { ...targetOf(listener), allowHalfOpen: true });
  const scene = { channel: listener.description, link: await arrived.promise, peer };
  // Closing a unix socket in this process removes its file: with `vproxy upgrade` such a listener continues.
  return channel.startsWith('unix') ? scene : { ...scene, listener };
}

/** The address of a listener. */
function targetOf({ description }: ChannelListener): net.NetConnectOpts {
  const [, host = '', port] = /^[a-z-]+:(.*?)(?::(\d+))?$/.exec(description) ?? [];
  return port === undefined ? { path: host } : { host, port: Number(port) };
}

const KINDS: Readonly<Record<string, (t: ExecutionContext, path: string) => Promise<Scene>>> = {
  'unix-connect': (t, path) => dialled(t, 'unix-connect', path),
  'tcp-connect': (t) => dialled(t, 'tcp-connect'),
  'unix-listen': (t, path) => accepted(t, `unix-listen:${path}`),
  'tcp-listen': (t) => accepted(t, 'tcp-listen:127.0.0.1:0'),
};

for (const [name, makeScene] of Object.entries(KINDS)) {
  test(`${name}: a link continues with its unwritten bytes, and its listener accepts as before`, async (t) => {
    const { channel, link, peer, listener } = await makeScene(t, join(temporaryFolder(t), 'channel.sock'));
    const { kind, address } = parseChannel(channel);
    const change = await ChangeHere.prepare();
    const received = collect(peer);
    const before = record(link);
    peer.write('first');
    await before.received(5);
    writePattern(link, 0);
    await setImmediate();
    t.true(link.unwrittenBytes > 2 ** 20);
    // This comes while one side ends and the other begins.
    peer.write(' then more');
    const capture = change.end({
      link: link.capture?.(change.keep) ?? null,
      listener: listener?.capture?.(change.keep) ?? null,
    });
    const restored = capture.link === null ? null : (kind.restoreLink?.(capture.link, change.take) ?? null);
    if (restored === null) throw new Error('there is no link');
    t.teardown(() => restored.destroy());
    t.is(restored.description, link.description);
    // Bytes written before the start follow those that were left.
    writePattern(restored, BYTES);
    const after = record(restored);
    if (listener !== undefined && kind.mode === 'listen') {
      const others = deferred<Link>();
      const onFailed = (error: Error): unknown => t.fail(error.message);
      const handlers = { onLink: (other: Link) => others.resolve(other), onFailed };
      const next = await kind.listen(address, handlers, change.take(capture.listener ?? -1));
      t.is(next.description, listener.description);
      localSocket(t, targetOf(next));
      (await others.promise).close();
      await next.close();
    }
    peer.resume();
    t.is(sha256(await received.until(2 * BYTES)), sha256(patternFrom(0, 2 * BYTES)));
    await after.drained();
    peer.end(' and the end');
    await after.received(' then more and the end'.length);
    t.is(String(Buffer.concat([before.bytes, after.bytes])), 'first then more and the end');
  });
}

/** A link over one end of a unix socket, the other end of which is `far`. */
async function linked(t: ExecutionContext, options?: SocketLinkOptions) {
  const { near, far } = await unixPair(t);
  const link = new SocketLink('x', (onread) => readBuffered(near, onread), options);
  t.teardown(() => link.destroy());
  return { link, far, unwritten: () => link.capture(() => 0)?.unwritten };
}

test('a capture has undelivered bytes and the properties of the link; the link continues', async (t) => {
  const said = { firstBytes: Buffer.from('read before'), origin: '10.0.0.1', mayBeStuck: true };
  const { link, far, unwritten } = await linked(t, said);
  const kept: number[] = [];
  const capture = link.capture((fd) => kept.push(fd) - 1);
  t.like(capture, { ...said, description: 'x', descriptors: [0], bufferBytes: null });
  t.is(capture?.unwritten.length, 0);
  const recorder = record(link);
  far.end(' and behind');
  await recorder.closed;
  t.is(Buffer.concat(recorder.pieces).toString(), 'read before and behind');
  t.is(unwritten(), undefined);
});

test('a restored link writes nothing before its start, and then first what was left', async (t) => {
  const { link: old, far } = await linked(t);
  const change = await ChangeHere.prepare();
  const capture = old.capture(change.keep);
  if (capture === null) throw new Error('it cannot be handed over');
  const received = collect(far);
  far.resume();
  const link = restoreSocketLink(change.end({ ...capture, unwritten: Buffer.from('left ') }), change.take);
  t.teardown(() => link.destroy());
  t.false(link.write(Buffer.from('since ')));
  t.false(link.writeParts([Buffer.from('and '), Buffer.from('so on')]));
  for (let turn = 0; turn < 10; turn += 1) await setImmediate();
  t.is(String(await received.until(0)), '');
  t.is(String(link.capture(() => 0)?.unwritten), 'left since and so on');
  const recorder = record(link);
  t.is(String(await received.until(20)), 'left since and so on');
  await recorder.drained();
});

test('capturing again and again while a link writes and reads changes nothing', async (t) => {
  const { link, far, unwritten } = await linked(t);
  record(link);
  const received = collect(far);
  const pattern = patternFrom(0, BYTES);
  for (let end = 65_536; end <= BYTES; end += 65_536) {
    link.writeParts([pattern.subarray(end - 65_536, end - 32_768), pattern.subarray(end - 32_768, end)]);
    if (end === 2 ** 21) far.resume();
    if (end >= 2 ** 21) await setImmediate();
    const left = unwritten() ?? Buffer.alloc(0);
    t.true(left.equals(pattern.subarray(end - left.length, end)));
  }
  t.is(sha256(await received.until(BYTES)), sha256(pattern));
  t.is(unwritten()?.length, 0);
});

test('a link that needs more than a descriptor cannot be handed over', async (t) => {
  const needing = await linked(t);
  needing.link.beforeClosed((reason) => Promise.resolve(reason));
  t.is(needing.unwritten(), undefined);
  const closing = await linked(t);
  closing.link.close();
  t.is(closing.unwritten(), undefined);
  t.false('capture' in (new DuplexLink('x', duplexPair()[0]) as Link));
  const command = await dial(t, 'exec:cat');
  t.is(command.capture?.(() => 0) ?? null, null);
  for (const text of ['exec:cat', 'stdio:', 'fd:3', 'tty-open:/dev/ttyS0'])
    t.false('restoreLink' in parseChannel(text).kind);
});
