/** Links and listeners that one process hands over to another one, which goes on in the middle of the bytes. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { parseChannel } from '../../lib/channel/address/address.js';
import { DuplexLink } from '../../lib/link/duplex-link.js';
import type { Link } from '../../lib/link/link.js';
import { restoreSocketLink, SocketLink } from '../../lib/link/socket-link.js';
import { readBuffered } from '../../lib/system/sockets/node-sockets.js';
import { ChangeHere } from '../helpers/change-here.js';
import { dial, duplexPair, LinkRecorder } from '../helpers/channel-pair.js';
import { sha256, temporaryFolder } from '../helpers/files.js';
import { patternFrom } from '../helpers/process-change.js';
import { localServer, localSocket } from '../helpers/proxies.js';
import { TalkingProgram } from '../helpers/talking-program.js';
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

/** The program's link at its other end, `peer`: hands over while most of what it wrote is unwritten, and nothing is lost. */
async function handsOver(t: ExecutionContext, program: TalkingProgram, peer: net.Socket): Promise<void> {
  const received = collect(peer);
  peer.write('first write');
  await eventually(() => program.read.endsWith('write'));
  peer.write(' go');
  const [unwritten] = await program.heard('unwritten');
  t.true(Number(unwritten) > 2 ** 20);
  // This comes while the one process ends and the other one begins.
  peer.write(' then more');
  const [, left] = await program.heard('restored');
  t.true(Number(left) > 2 ** 20);
  await eventually(() => program.read === 'first write go then more');
  peer.resume();
  await eventually(() => received.bytes().length >= 2 * BYTES);
  await program.heard('drained');
  t.is(sha256(received.bytes()), sha256(patternFrom(0, 2 * BYTES)));
  peer.end('close');
  await program.ended;
  t.is(received.bytes().length, 2 * BYTES);
  t.is(program.read, 'first write go then moreclose');
}

const settingsOf = (folder: string, channel: string) => ({ channel, path: join(folder, 'capture'), bytes: BYTES });

test('unix-connect: a link that was dialled goes on in another process, with what was unwritten', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'channel.sock');
  const server = await localServer(t, () => undefined, { path }, { allowHalfOpen: true, pauseOnConnect: true });
  const accepted = once(server, 'connection') as Promise<[net.Socket]>;
  const program = new TalkingProgram(t, 'link-owner', settingsOf(folder, `unix-connect:${path}`));
  const [peer] = await accepted;
  await handsOver(t, program, peer);
});

test('tcp-connect: so does one of TCP', async (t) => {
  const folder = temporaryFolder(t);
  const server = await localServer(t, () => undefined, undefined, { allowHalfOpen: true, pauseOnConnect: true });
  const accepted = once(server, 'connection') as Promise<[net.Socket]>;
  const program = new TalkingProgram(t, 'link-owner', settingsOf(folder, `tcp-connect:127.0.0.1:${server.port}`));
  const [peer] = await accepted;
  await handsOver(t, program, peer);
});

test('unix-listen: a link that was accepted goes on, its listener refuses nobody, and its file goes when the successor closes it', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'channel.sock');
  const program = new TalkingProgram(t, 'link-owner', settingsOf(folder, `unix-listen:${path}`));
  t.deepEqual(await program.heard('listening'), [`unix-listen:${path}`]);
  const peer = localSocket(t, { path, allowHalfOpen: true });
  await once(peer, 'connect');
  const received = collect(peer);
  peer.write('write');
  await eventually(() => program.read.endsWith('write'));
  peer.write(' go');
  await program.heard('unwritten');
  // Maybe nobody accepts in this moment: then it waits.
  const other = localSocket(t, { path });
  await once(other, 'connect');
  await program.heard('accepted');
  t.true(existsSync(path));
  peer.resume();
  await eventually(() => received.bytes().length === 2 * BYTES);
  t.is(sha256(received.bytes()), sha256(patternFrom(0, 2 * BYTES)));
  other.write('close');
  await eventually(() => !existsSync(path));
  peer.end();
  await program.ended;
});

test('tcp-listen: so does the listener of TCP, with the port that was picked', async (t) => {
  const folder = temporaryFolder(t);
  const program = new TalkingProgram(t, 'link-owner', settingsOf(folder, 'tcp-listen:127.0.0.1:0'));
  const [description] = await program.heard('listening');
  const port = Number(/\d+$/.exec(String(description))?.[0]);
  const peer = localSocket(t, { host: '127.0.0.1', port, allowHalfOpen: true });
  await once(peer, 'connect');
  await handsOver(t, program, peer);
  const descriptions = program.said.filter(([word]) => word === 'listening').map(([, text]) => text);
  t.deepEqual(descriptions, [description, description]);
});

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
