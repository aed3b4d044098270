/** Hand-over of forwards to a successor in the middle of their connections' bytes. */
import { once } from 'node:events';
import type net from 'node:net';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { OutgoingForward } from '../../lib/forward/outgoing.js';
import { ServiceGate } from '../../lib/forward/service-registry.js';
import { SessionSource } from '../../lib/forward/session-source.js';
import { type Forward, type Predecessor, parseForwardSpec } from '../../lib/forward/spec.js';
import { DROPPED_BYTES } from '../../lib/forward/splice.js';
import type { LocalEnd } from '../../lib/session/local-end.js';
import { RequestLabeller } from '../../lib/storage/request-labeller.js';
import { Budget } from '../../lib/util/bounds.js';
import { ChangeHere, patternFrom } from '../helpers/change-here.js';
import { sha256, temporaryFolder } from '../helpers/files.js';
import { localServer, localSocket } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { ForwardScene, IncomingScene, MIB } from './forward-scene.js';
import './input-filter.js';
import './local-writer.js';

/** Enough turns of the event loop for sockets to be read. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) await setImmediate();
}

/** Captures a forward; `index` is that of its streams. */
const captureOf = (forward: Forward, index = 0) =>
  forward.capture(
    () => 0,
    () => index,
  );

/** Reads a socket to its end. */
async function readOn(socket: net.Socket): Promise<void> {
  const ended = once(socket, 'end');
  socket.resume();
  await ended;
}

/** Collects the data of a socket, which is not read before `resume`. */
function collect(socket: net.Socket): () => Buffer {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk)).pause();
  return () => Buffer.concat(chunks);
}

/** Which ends have ended at the hand-over, and whether the program has read its data. */
const COURSES: Readonly<Record<string, { peerEnds?: true; programEnds?: true; isRead?: true }>> = {
  'what waits for a program that does not read comes from the successor, with its end': {},
  'an end that came from the peer before is behind what waits': { peerEnds: true },
  'a program that had ended its direction still reads': { programEnds: true },
  'a peer that had ended before, with all of it written, still gets the rest': { peerEnds: true, isRead: true },
  'what is over for the protocol is written to its end': { peerEnds: true, programEnds: true },
};

for (const isTcp of [true, false]) {
  const name = isTcp ? 'TCP' : 'a unix socket';

  for (const [what, { peerEnds = false, programEnds = false, isRead = false }] of Object.entries(COURSES)) {
    test(`${name}: ${what}; no credit is lost, and everything is logged`, async (t) => {
      const { scene, socket, stream } = await IncomingScene.open(t, { isTcp });
      const received = collect(socket);
      const pattern = patternFrom(0, (peerEnds ? 10 : 12) * MIB);
      const answer = async (): Promise<void> => {
        socket.end('said');
        await scene.seen('FIN 1');
      };
      if (programEnds) await answer();
      scene.sendData(1, pattern.subarray(0, 10 * MIB));
      t.true(stream.unreadBytes > MIB);
      if (peerEnds) scene.peer.send(FRAME_TYPE.FIN, 1);
      if (isRead) await readOn(socket);
      t.is((await scene.handOver()).connections.length, 1);
      t.deepEqual(scene.eventTypes, ['stream-opened']);
      if (!peerEnds) {
        const before = stream.unreadBytes;
        scene.sendData(1, pattern.subarray(10 * MIB, 11 * MIB));
        t.is(stream.unreadBytes, before + MIB);
      }
      await scene.next.goOn();
      if (!peerEnds) {
        scene.sendData(1, pattern.subarray(11 * MIB));
        scene.peer.send(FRAME_TYPE.FIN, 1);
      }
      if (!isRead) await readOn(socket);
      t.is(sha256(received()), sha256(pattern));
      if (!programEnds) await answer();
      t.is((await scene.received(4)).toString(), 'said');
      await eventually(() => scene.next.openCount === 0 && scene.eventTypes.at(-1) === 'stream-closed');
      t.deepEqual(scene.eventTypes, ['stream-opened', 'stream-closed']);
      t.like(scene.events[1]?.fields, { stream: 1, sentBytes: 4, receivedBytes: pattern.length, code: null });
      t.deepEqual([stream.unreadBytes, stream.isDraining, scene.next.streamCount], [0, false, 1]);
    });
  }

  test(`${name}: data that waits for the peer's credit holds up the program in the successor too, and arrives once`, async (t) => {
    const { scene, socket, stream } = await IncomingScene.open(t, { isTcp, streamCredit: 100_000 });
    const pattern = patternFrom(0, 12 * MIB);
    socket.end(pattern);
    await scene.received(100_000);
    await eventually(() => stream.isWaiting);
    await scene.change();
    // Reading it now would exceed what may wait.
    await turns();
    t.is((await scene.received(100_000)).length, 100_000);
    for (let total = 200_000; total < pattern.length; total += 1_000_000) {
      scene.peer.sendCredit(1, total);
      await scene.received(total);
    }
    scene.peer.sendCredit(1, pattern.length);
    t.is(sha256(await scene.received(pattern.length)), sha256(pattern));
    await scene.seen('FIN 1');
  });

  test(`${name}: after STOP the successor drops what is written, within the remaining limits`, async (t) => {
    const { scene, socket } = await IncomingScene.open(t, { isTcp });
    const received = collect(socket);
    scene.peer.send(FRAME_TYPE.STOP, 1, { code: 'cancelled', message: 'reads no more' });
    await scene.seen('FIN 1');
    socket.write(Buffer.alloc(200_000));
    const leftIn = (forward: Forward): number => captureOf(forward).connections[0]?.splice.unreadBytes ?? 0;
    const leftBytes = DROPPED_BYTES - 200_000;
    await eventually(() => leftIn(scene.forward) === leftBytes);
    await scene.change();
    t.is(leftIn(scene.next), leftBytes);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.resume();
    scene.sendData(1, Buffer.from('more'));
    await eventually(() => received().toString() === 'more');
    // More than is dropped: from here on the time limit applies.
    socket.write(Buffer.alloc(leftBytes + 12 * MIB));
    await eventually(() => leftIn(scene.next) <= 0);
    await eventually(() => {
      scene.peer.advance(1000);
      scene.pump();
      return scene.texts.includes('RESET 1');
    });
    await closed;
    await eventually(() => scene.eventTypes.at(-1) === 'stream-reset');
    t.like(scene.events.at(-1)?.fields, { code: 'cancelled' });
    const { openCount, refusals, resets } = scene.nextTally;
    t.deepEqual([openCount, [...refusals.list()], [...resets.list()].length], [0, [], 1], 'it was open before');
  });

  test(`${name}: a program that stays after STOP and its answer is closed by the successor`, async (t) => {
    const { scene, socket } = await IncomingScene.open(t, { isTcp });
    const ended = once(socket, 'end');
    const received = collect(socket);
    scene.peer.send(FRAME_TYPE.STOP, 1, { code: 'cancelled', message: 'reads no more' });
    scene.sendData(1, Buffer.from('the answer'));
    scene.peer.send(FRAME_TYPE.FIN, 1);
    socket.resume();
    await ended;
    scene.nextRegistry.setGate('x', new ServiceGate({ streams: 1 }, scene.peer.clock));
    scene.peer.onStream = (stream) => scene.nextRegistry.serve(stream, scene.peer.session);
    await scene.change();
    socket.write('more');
    await turns();
    scene.peer.advance(9999);
    await turns();
    t.false(socket.destroyed);
    // It has its place as long.
    scene.peer.sendOpen(3, 'x');
    await scene.seen('REFUSE 3');
    scene.peer.advance(1);
    // It learns of that when it writes.
    await eventually(() => !socket.write('more') && socket.destroyed);
    t.is(received().toString(), 'the answer');
    await eventually(() => scene.eventTypes.at(-1) === 'stream-closed');
    scene.peer.sendOpen(5, 'x');
    await scene.seen('ACCEPT 5');
  });

  test(`${name}: a closing socket is not handed over, and the end of its stream is logged by the predecessor`, async (t) => {
    const { scene } = await IncomingScene.open(t, { isTcp });
    scene.sendData(1, Buffer.from('hello'));
    scene.peer.send(FRAME_TYPE.RESET, 1, { code: 'cancelled', message: 'no more' });
    const { connections } = await scene.handOver();
    t.is(connections[0]?.splice.socket, null);
    t.like(connections[0]?.stream, { id: 1 });
    await scene.next.goOn();
    t.deepEqual(scene.eventTypes, ['stream-opened', 'stream-reset']);
    t.like(scene.events.at(-1)?.fields, { stream: 1, receivedBytes: 5, code: 'cancelled' });
  });
}

test('a reset of the program in between resets the stream', async (t) => {
  const { scene, socket } = await IncomingScene.open(t);
  await scene.handOver();
  socket.resetAndDestroy();
  await scene.next.goOn();
  await scene.seen('RESET 1');
  await eventually(() => scene.eventTypes.at(-1) === 'stream-reset');
  t.like(scene.events.at(-1)?.fields, { stream: 1, code: 'local-error' });
});

test('a stream whose target is still being dialled is left out and not counted: it is offered again', async (t) => {
  const path = join(temporaryFolder(t), 'target');
  // No answer to the line of hybrid vsock.
  const server = await localServer(t, () => undefined, { path });
  const scene = await IncomingScene.start(t, `vsock-mux:${path}:7`);
  const connected = once(server, 'connection');
  scene.peer.sendOpen(1, 'x');
  await connected;
  t.deepEqual(scene.forward.obstacles(), []);
  t.like(captureOf(scene.forward, -1), { connections: [], streamCount: 0, isStarted: true });
  t.is(scene.forward.streamCount, 1);
});

test('data received before the answer reaches another local end, past any filter', async (t) => {
  const path = join(temporaryFolder(t), 'target');
  await localServer(t, () => undefined, { path });
  const filters = () => new RequestLabeller('vm1', new Budget(MIB));
  const scene = await IncomingScene.start(t, `vsock-mux:${path}:7`, { filters });
  const ends: LocalEnd[] = [];
  scene.peer.onStream = (stream) => {
    const attach = (end: LocalEnd): void => {
      ends.push(end);
      stream.attach(end);
    };
    scene.registry.serve(scene.here.forOld(stream, { attach }), scene.peer.session);
  };
  scene.peer.sendOpen(1, 'x');
  scene.sendData(1, patternFrom(0, 10_000));
  scene.sendData(1, patternFrom(10_000, 5));
  t.is(sha256(Buffer.concat(ends[0]?.listHeld?.() ?? [])), sha256(patternFrom(0, 10_005)));
});

test('open commands and files are obstacles, and so is a stream of a session that is not handed over', async (t) => {
  const command = await IncomingScene.start(t, 'exec:cat');
  t.deepEqual(command.forward.obstacles(), []);
  command.peer.sendOpen(1, 'x');
  await command.seen('ACCEPT 1');
  t.deepEqual(command.forward.obstacles(), ['stream 1 to exec:cat (x), whose command is still running']);
  t.throws(() => captureOf(command.forward), { code: 'upgrade-failed', message: /whose command is still running/ });
  command.peer.send(FRAME_TYPE.FIN, 1);
  await eventually(() => command.forward.obstacles().length === 0);

  const path = join(temporaryFolder(t), 'lines');
  const file = await IncomingScene.start(t, `file:${path}`);
  file.peer.sendOpen(1, 'x');
  t.deepEqual(file.forward.obstacles(), [`1 stream to file:${path} (x), whose lines are assembled here`]);

  const { scene } = await IncomingScene.open(t);
  t.throws(() => captureOf(scene.forward, -1), { code: 'upgrade-failed' });
});

test('capturing changes nothing, however often', async (t) => {
  const { scene, socket, stream } = await IncomingScene.open(t, { isTcp: false });
  const received = collect(socket);
  const pattern = patternFrom(0, 10 * MIB);
  for (let at = 0; at < pattern.length; at += MIB) {
    scene.sendData(1, pattern.subarray(at, at + MIB));
    const { connections } = captureOf(scene.forward);
    const writer = connections[0]?.splice.writer;
    const unwritten = Buffer.concat(writer?.unwritten ?? []);
    t.true(unwritten.equals(pattern.subarray(at + MIB - unwritten.length, at + MIB)));
    t.is(unwritten.length + (writer?.takenBytes ?? 0), stream.unreadBytes);
    if (at === 5 * MIB) socket.resume();
    if (at > 5 * MIB) await setImmediate();
  }
  await eventually(() => received().length === pattern.length);
  t.is(sha256(received()), sha256(pattern));
});

class OutgoingScene extends ForwardScene<OutgoingForward> {
  readonly source: SessionSource;
  readonly nextSource: SessionSource;
  readonly forward: OutgoingForward;
  protected readonly succeed: (predecessor: Predecessor) => OutgoingForward;

  private constructor(t: ExecutionContext, here: ChangeHere, endpoint: string) {
    super(here, 64 * MIB);
    const { clock } = this.peer;
    const spec = parseForwardSpec('outgoing', endpoint);
    this.source = new SessionSource(clock);
    this.nextSource = new SessionSource(clock);
    const options = { id: 'f1', log: this.log, clock, waitMs: 1000 };
    this.forward = new OutgoingForward(spec, { ...options, source: this.source, log: this.oldLog });
    t.teardown(() => this.forward.stop());
    this.succeed = (predecessor) => {
      const next = new OutgoingForward(
        spec,
        { ...options, source: this.nextSource, tally: this.nextTally },
        predecessor,
      );
      t.teardown(() => next.stop());
      return next;
    };
  }

  /** A scene whose forward listens, with a session. */
  static async start(t: ExecutionContext, endpoint: string): Promise<OutgoingScene> {
    const scene = new OutgoingScene(t, await ChangeHere.prepare(), endpoint);
    await scene.forward.start();
    scene.#provide();
    return scene;
  }

  #provide(): void {
    const { session } = this.peer;
    const open: typeof session.open = (...parameters) => {
      const stream = session.open(...parameters);
      this.streams.push(stream);
      return this.here.forOld(stream);
    };
    this.source.provide(this.here.forOld(session, { open }));
  }

  /** The number of the newest stream, once the peer knows it. */
  async opened(count: number): Promise<number> {
    await eventually(() => {
      this.pump();
      return this.texts.filter((text) => text.startsWith('OPEN')).length === count;
    });
    return this.streams.at(-1)?.id ?? -1;
  }
}

test('the listener of an outgoing forward survives, and so do its connections, even those that wait for a session', async (t) => {
  const scene = await OutgoingScene.start(t, 'x:0');
  const port = Number(/\d+$/.exec(scene.forward.endpointText)?.[0]);
  const open = localSocket(t, { host: '127.0.0.1', port });
  const id = await scene.opened(1);
  scene.peer.send(FRAME_TYPE.ACCEPT, id);
  open.write('before');
  await scene.received(6);

  const early = localSocket(t, { host: '127.0.0.1', port });
  early.write('early');
  const earlyId = await scene.opened(2);
  await scene.received(11);

  scene.source.withdraw(scene.source.current as never);
  const waiting = localSocket(t, { host: '127.0.0.1', port });
  waiting.write('waits');
  await eventually(() => scene.forward.openCount === 3);
  const { listener } = await scene.handOver();
  t.not(listener, null);
  t.is(scene.next.endpointText, scene.forward.endpointText);
  // Nothing is accepted yet, and nothing refused.
  const late = localSocket(t, { host: '127.0.0.1', port });
  await once(late, 'connect');
  open.write(' after');
  const { session } = scene.peer;
  scene.nextSource.provide(session);
  await scene.next.goOn();
  t.is((await scene.received(22)).length, 22);
  t.deepEqual([scene.next.openCount, scene.next.streamCount] as const, [4, 4]);
  scene.peer.send(FRAME_TYPE.ACCEPT, earlyId);
  scene.sendData(earlyId, Buffer.from('welcome'));
  const [chunk] = (await once(early, 'data')) as [Buffer];
  t.is(chunk.toString(), 'welcome');
  t.deepEqual(scene.eventTypes, ['listening', 'stream-opened', 'stream-opened']);
  t.is(scene.nextTally.openCount, 2, 'one of them was open before');
  await scene.next.stop();
});

test('a connection to a unix socket is not read before the peer has accepted its stream, not in the successor either', async (t) => {
  const path = join(temporaryFolder(t), 'local');
  const scene = await OutgoingScene.start(t, `x:${path}`);
  const socket = localSocket(t, { path });
  socket.write('hello');
  const id = await scene.opened(1);
  await scene.change();
  await turns();
  scene.pump();
  t.is(scene.streams[0]?.sentBytes, 0);
  scene.peer.send(FRAME_TYPE.ACCEPT, id);
  t.is((await scene.received(5)).toString(), 'hello');
  t.deepEqual(scene.eventTypes, ['listening', 'stream-opened']);
});

test('a client that still has to send its line, or waits for the answer, is an obstacle until then', async (t) => {
  const path = join(temporaryFolder(t), 'local');
  const scene = await OutgoingScene.start(t, `*:vsock-mux:${path}`);
  const socket = localSocket(t, { path });
  await eventually(() => scene.forward.openCount === 1);
  t.deepEqual(scene.forward.obstacles(), [`a connection to vsock-mux:${path} (*) that has not sent its request yet`]);
  t.throws(() => captureOf(scene.forward), { code: 'upgrade-failed' });
  socket.write('CONNECT ssh\n');
  const id = await scene.opened(1);
  t.deepEqual(scene.forward.obstacles(), [`stream ${id} to vsock-mux:${path} (*), not yet answered by the peer`]);
  scene.peer.send(FRAME_TYPE.ACCEPT, id);
  await once(socket, 'data');
  t.deepEqual(scene.forward.obstacles(), []);
  await scene.change();
  socket.write('and now');
  t.is((await scene.received(7)).toString(), 'and now');
});
