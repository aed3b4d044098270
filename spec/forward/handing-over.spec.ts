/** Forwards that one side hands over to another one, in the middle of the bytes of their connections. */
import { once } from 'node:events';
import type net from 'node:net';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import type { LogEvent } from '../../lib/events.js';
import { IncomingForward } from '../../lib/forward/incoming.js';
import { OutgoingForward } from '../../lib/forward/outgoing.js';
import { ServiceRegistry } from '../../lib/forward/service-registry.js';
import { SessionSource } from '../../lib/forward/session-source.js';
import { type Forward, type ForwardState, type Predecessor, parseForwardSpec } from '../../lib/forward/spec.js';
import type { LocalEnd } from '../../lib/session/local-end.js';
import type { SessionStream } from '../../lib/session/stream.js';
import { ChangeHere } from '../helpers/change-here.js';
import { sha256, temporaryFolder } from '../helpers/files.js';
import { FramePeer } from '../helpers/frame-peer.js';
import { patternFrom } from '../helpers/process-change.js';
import { localServer, localSocket } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

const MIB = 2 ** 20;

/** A session whose peer is a spec, with room for all that is sent, and a forward that changes sides. */
abstract class Scene<F extends Forward> {
  readonly peer: FramePeer;
  readonly change: ChangeHere;
  readonly events: LogEvent[] = [];
  /** The frames that the peer has read. */
  readonly texts: string[] = [];
  /** What came in DATA. */
  readonly #received: Buffer[] = [];
  readonly streams: SessionStream[] = [];
  abstract readonly forward: F;
  #next: F | null = null;

  constructor(change: ChangeHere, streamCredit: number) {
    const room = { streamCredit: 64 * MIB, inFlight: 64 * MIB };
    this.change = change;
    this.peer = FramePeer.established({ limits: room, peerLimits: { ...room, streamCredit } });
  }

  /** Reads what the side under test has written. */
  pump(): void {
    this.peer.pump();
    for (const frame of this.peer.log.take()) {
      if (frame.type === FRAME_TYPE.DATA) this.#received.push(Buffer.from(frame.payload));
      else this.texts.push(`${NAMES.get(frame.type) ?? frame.type} ${frame.streamId}`);
    }
  }

  /** Waits until the peer has read a frame. */
  async seen(text: string): Promise<void> {
    await eventually(
      () => {
        this.pump();
        return this.texts.includes(text);
      },
      { intervalMs: 2, what: text },
    );
  }

  /** Waits until so many bytes have come, and gives them. */
  async received(byteCount: number): Promise<Buffer> {
    const bytes = await eventually(
      () => {
        this.pump();
        const all = Buffer.concat(this.#received);
        return all.length >= byteCount ? all : null;
      },
      { intervalMs: 2, what: `${byteCount} bytes` },
    );
    return bytes;
  }

  sendData(streamId: number, bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += 65_536) this.peer.sendData(streamId, bytes.subarray(at, at + 65_536));
  }

  /** The types of the events of the log. */
  get eventTypes(): string[] {
    return this.events.map(({ event }) => event);
  }

  readonly log = (event: LogEvent): void => {
    this.events.push(event);
  };

  /** That of the side that hands over, which has none any more when it has. */
  readonly oldLog = (event: LogEvent): void => {
    if (!this.change.isOver) this.events.push(event);
  };

  protected indexOf = (stream: SessionStream): number => {
    const target = this.change.targetOf(stream) as SessionStream | undefined;
    return target === undefined ? -1 : this.streams.indexOf(target);
  };

  /** The forward that comes in the place of the first one. */
  get next(): F {
    if (this.#next === null) throw new Error('nothing was handed over');
    return this.#next;
  }

  protected abstract succeed(predecessor: Predecessor): F;

  /** Captures the forward in a timer, as it has to be, and makes the next one; that does not go on yet. */
  async handOver(): Promise<ForwardState> {
    const { forward } = this;
    const capture = await eventually(
      () => (forward.obstacles().length === 0 ? forward.capture(this.change.keep, this.indexOf) : null),
      {
        intervalMs: 1,
      },
    );
    const state = this.change.end(capture);
    this.#next = this.succeed({ state, take: this.change.take, streams: this.streams });
    return state;
  }
}

const NAMES = new Map<number, string>(Object.entries(FRAME_TYPE).map(([name, type]) => [type as number, name]));

class IncomingScene extends Scene<IncomingForward> {
  readonly registry = new ServiceRegistry();
  readonly nextRegistry = new ServiceRegistry();
  readonly forward: IncomingForward;
  protected readonly succeed: (predecessor: Predecessor) => IncomingForward;

  constructor(t: ExecutionContext, change: ChangeHere, target: string, streamCredit: number) {
    super(change, streamCredit);
    const options = { id: 'f1', log: this.log, clock: this.peer.clock, maxStreams: 10 };
    const spec = parseForwardSpec('incoming', `x:${target}`);
    this.forward = new IncomingForward(spec, { ...options, registry: this.registry, log: this.oldLog });
    t.teardown(() => this.forward.stop());
    this.succeed = (predecessor) => {
      const next = new IncomingForward(spec, { ...options, registry: this.nextRegistry }, predecessor);
      t.teardown(() => next.stop());
      return next;
    };
    this.peer.onStream = (stream) => {
      this.streams.push(stream);
      this.registry.serve(change.forOld(stream), this.peer.session);
    };
  }

  /** A scene whose target is a server of the test, and the socket of a stream to that, which is not read yet. */
  static async open(
    t: ExecutionContext,
    { isTcp = true, streamCredit = 64 * MIB } = {},
  ): Promise<{ scene: IncomingScene; socket: net.Socket; stream: SessionStream }> {
    const path = join(temporaryFolder(t), 'target');
    const server = await localServer(t, () => undefined, isTcp ? undefined : { path }, { pauseOnConnect: true });
    const change = await ChangeHere.prepare();
    const scene = new IncomingScene(t, change, isTcp ? String(server.port) : path, streamCredit);
    await scene.forward.start();
    const connected = once(server, 'connection') as Promise<[net.Socket]>;
    scene.peer.sendOpen(1, 'x');
    const [socket] = await connected;
    await scene.seen('ACCEPT 1');
    return { scene, socket, stream: scene.streams[0] as SessionStream };
  }
}

/** So many turns of the event loop that sockets which are read have been. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) await setImmediate();
}

/** Collects what a socket gives, which is not read before `resume`. */
function collect(socket: net.Socket): () => Buffer {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk)).pause();
  return () => Buffer.concat(chunks);
}

for (const isTcp of [true, false]) {
  const name = isTcp ? 'TCP' : 'a unix socket';

  test(`${name}: what waits for a program that does not read comes from the successor, with its end, and credit comes out even`, async (t) => {
    const { scene, socket, stream } = await IncomingScene.open(t, { isTcp });
    const received = collect(socket);
    const pattern = patternFrom(0, 12 * MIB);
    scene.sendData(1, pattern.subarray(0, 10 * MIB));
    t.true(stream.heldBytes > MIB);
    const held = stream.heldBytes;
    const { connections } = await scene.handOver();
    t.is(connections.length, 1);
    // Nothing has happened yet.
    t.true(stream.heldBytes <= held);
    const before = stream.heldBytes;
    scene.sendData(1, pattern.subarray(10 * MIB, 11 * MIB));
    t.is(stream.heldBytes, before + MIB);
    await scene.next.goOn();
    scene.sendData(1, pattern.subarray(11 * MIB));
    scene.peer.send(FRAME_TYPE.FIN, 1);
    const ended = once(socket, 'end');
    socket.resume();
    await ended;
    t.is(sha256(received()), sha256(pattern));
    t.is(stream.heldBytes, 0);
    socket.end('the answer');
    await scene.seen('FIN 1');
    t.is((await scene.received(10)).toString(), 'the answer');
    await eventually(() => scene.next.openCount === 0);
    t.deepEqual(scene.eventTypes, ['stream-opened', 'stream-closed']);
    t.like(scene.events.at(-1)?.fields, { sentBytes: 10, receivedBytes: 12 * MIB, code: null });
    t.is(scene.next.streamCount, 1);
  });

  test(`${name}: an end that came from the peer before is behind what waits`, async (t) => {
    const { scene, socket } = await IncomingScene.open(t, { isTcp });
    const received = collect(socket);
    const pattern = patternFrom(0, 10 * MIB);
    scene.sendData(1, pattern);
    scene.peer.send(FRAME_TYPE.FIN, 1);
    await scene.handOver();
    await scene.next.goOn();
    const ended = once(socket, 'end');
    socket.resume();
    await ended;
    t.is(sha256(received()), sha256(pattern));
    socket.end('bye');
    await scene.seen('FIN 1');
    t.is((await scene.received(3)).toString(), 'bye');
  });

  test(`${name}: a program that had ended its direction still reads, and its connection ends in order`, async (t) => {
    const { scene, socket } = await IncomingScene.open(t, { isTcp });
    const received = collect(socket);
    socket.end('all I say');
    await scene.seen('FIN 1');
    await scene.handOver();
    await scene.next.goOn();
    scene.sendData(1, Buffer.from('heard'));
    scene.peer.send(FRAME_TYPE.FIN, 1);
    const ended = once(socket, 'end');
    socket.resume();
    await ended;
    t.is(received().toString(), 'heard');
    await eventually(() => scene.eventTypes.at(-1) === 'stream-closed');
    t.is((await scene.received(9)).toString(), 'all I say');
  });

  test(`${name}: a peer that had ended before, with all of it written, still gets the rest`, async (t) => {
    const { scene, socket } = await IncomingScene.open(t, { isTcp });
    const received = collect(socket);
    const ended = once(socket, 'end');
    socket.resume();
    scene.sendData(1, Buffer.from('question'));
    scene.peer.send(FRAME_TYPE.FIN, 1);
    await ended;
    await scene.handOver();
    await scene.next.goOn();
    socket.end('answer');
    await scene.seen('FIN 1');
    t.is((await scene.received(6)).toString(), 'answer');
    t.is(received().toString(), 'question');
    await eventually(() => scene.eventTypes.at(-1) === 'stream-closed');
  });

  test(`${name}: what waits for the peer's credit holds up the program in the successor too, and comes once`, async (t) => {
    const { scene, socket, stream } = await IncomingScene.open(t, { isTcp, streamCredit: 100_000 });
    const pattern = patternFrom(0, 12 * MIB);
    socket.end(pattern);
    await scene.received(100_000);
    await eventually(() => stream.isWaiting);
    await scene.handOver();
    await scene.next.goOn();
    // Were it read now, it would be more than may wait.
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

  test(`${name}: behind STOP the successor drops what is written, within the bounds that were left`, async (t) => {
    const { scene, socket } = await IncomingScene.open(t, { isTcp });
    const received = collect(socket);
    scene.peer.send(FRAME_TYPE.STOP, 1, { code: 'cancelled', message: 'reads no more' });
    await scene.seen('FIN 1');
    socket.write(Buffer.alloc(200_000));
    const leftIn = (forward: Forward): number =>
      forward.capture(
        () => 0,
        () => 0,
      ).connections[0]?.splice.unreadBytes ?? 0;
    await eventually(() => leftIn(scene.forward) === 62_144);
    await scene.handOver();
    await scene.next.goOn();
    t.is(leftIn(scene.next), 62_144);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.resume();
    scene.sendData(1, Buffer.from('more'));
    await eventually(() => received().toString() === 'more');
    // More than is dropped: from there on time counts.
    socket.write(Buffer.alloc(12 * MIB));
    await eventually(() => {
      scene.peer.advance(1000);
      scene.pump();
      return scene.texts.includes('RESET 1');
    });
    await closed;
    await eventually(() => scene.eventTypes.at(-1) === 'stream-reset');
    t.like(scene.events.at(-1)?.fields, { code: 'cancelled' });
  });

  test(`${name}: a connection that is over for the protocol is written to its end, and logged with its counts`, async (t) => {
    const { scene, socket } = await IncomingScene.open(t, { isTcp });
    const received = collect(socket);
    const pattern = patternFrom(0, 10 * MIB);
    socket.end('said');
    scene.sendData(1, pattern);
    scene.peer.send(FRAME_TYPE.FIN, 1);
    await scene.seen('FIN 1');
    t.true(scene.streams[0]?.isDraining);
    await scene.handOver();
    t.false(scene.eventTypes.includes('stream-closed'));
    await scene.next.goOn();
    const ended = once(socket, 'end');
    socket.resume();
    await ended;
    t.is(sha256(received()), sha256(pattern));
    await eventually(() => scene.eventTypes.at(-1) === 'stream-closed');
    t.like(scene.events.at(-1)?.fields, { stream: 1, sentBytes: 4, receivedBytes: 10 * MIB });
    t.false(scene.streams[0]?.isDraining);
  });

  test(`${name}: a socket that is just being closed is not handed over, and what became of its stream is logged there`, async (t) => {
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

test('a stream that is still dialled is left out, and is not counted: it is offered again', async (t) => {
  const change = await ChangeHere.prepare();
  const folder = temporaryFolder(t);
  // Nobody answers the line of hybrid vsock.
  const server = await localServer(t, () => undefined, { path: join(folder, 'target') });
  const scene = new IncomingScene(t, change, `vsock-mux:${join(folder, 'target')}:7`, 1024);
  await scene.forward.start();
  const connected = once(server, 'connection');
  scene.peer.sendOpen(1, 'x');
  await connected;
  t.deepEqual(scene.forward.obstacles(), []);
  t.like(
    scene.forward.capture(change.keep, () => -1),
    { connections: [], streamCount: 0, isStarted: true },
  );
  t.is(scene.forward.streamCount, 1);
});

test('what it was sent before the answer is there for another local end', async (t) => {
  const change = await ChangeHere.prepare();
  const path = join(temporaryFolder(t), 'target');
  await localServer(t, () => undefined, { path });
  const scene = new IncomingScene(t, change, `vsock-mux:${path}:7`, 1024);
  const ends: LocalEnd[] = [];
  scene.peer.onStream = (stream) => {
    const attach = (end: LocalEnd): void => {
      ends.push(end);
      stream.attach(end);
    };
    scene.registry.serve(change.forOld(stream, { attach }), scene.peer.session);
  };
  await scene.forward.start();
  scene.peer.sendOpen(1, 'x');
  scene.sendData(1, patternFrom(0, 10_000));
  scene.sendData(1, patternFrom(10_000, 5));
  t.is(sha256(Buffer.concat(ends[0]?.listHeld?.() ?? [])), sha256(patternFrom(0, 10_005)));
});

test('commands and files are obstacles while they are open, and so is a stream of a session that is not handed over', async (t) => {
  const change = await ChangeHere.prepare();
  const command = new IncomingScene(t, change, 'exec:cat', 1024);
  await command.forward.start();
  t.deepEqual(command.forward.obstacles(), []);
  command.peer.sendOpen(1, 'x');
  await command.seen('ACCEPT 1');
  t.deepEqual(command.forward.obstacles(), ['stream 1 to exec:cat (x), whose command runs']);
  t.throws(() => command.forward.capture(change.keep, () => 0), {
    code: 'upgrade-failed',
    message: /whose command runs/,
  });
  command.peer.send(FRAME_TYPE.FIN, 1);
  await eventually(() => command.forward.obstacles().length === 0);

  const path = join(temporaryFolder(t), 'lines');
  const file = new IncomingScene(t, change, `file:${path}`, 1024);
  await file.forward.start();
  file.peer.sendOpen(1, 'x');
  t.deepEqual(file.forward.obstacles(), [`1 streams to file:${path} (x), whose lines are put together here`]);

  const { scene } = await IncomingScene.open(t);
  t.throws(() => scene.forward.capture(scene.change.keep, () => -1), { code: 'upgrade-failed' });
});

test('capturing changes nothing, however often', async (t) => {
  const { scene, socket, stream } = await IncomingScene.open(t, { isTcp: false });
  const received = collect(socket);
  const pattern = patternFrom(0, 10 * MIB);
  for (let at = 0; at < pattern.length; at += MIB) {
    scene.sendData(1, pattern.subarray(at, at + MIB));
    const { connections } = scene.forward.capture(
      () => 0,
      () => 0,
    );
    const writer = connections[0]?.splice.writer;
    const unwritten = Buffer.concat(writer?.unwritten ?? []);
    t.true(unwritten.equals(pattern.subarray(at + MIB - unwritten.length, at + MIB)));
    t.is(unwritten.length + (writer?.takenBytes ?? 0), stream.heldBytes);
    if (at === 5 * MIB) socket.resume();
    if (at > 5 * MIB) await setImmediate();
  }
  await eventually(() => received().length === pattern.length);
  t.is(sha256(received()), sha256(pattern));
});

class OutgoingScene extends Scene<OutgoingForward> {
  readonly source: SessionSource;
  readonly nextSource: SessionSource;
  readonly forward: OutgoingForward;
  protected readonly succeed: (predecessor: Predecessor) => OutgoingForward;

  constructor(t: ExecutionContext, change: ChangeHere, endpoint: string) {
    super(change, 64 * MIB);
    const { clock } = this.peer;
    const spec = parseForwardSpec('outgoing', endpoint);
    this.source = new SessionSource(clock);
    this.nextSource = new SessionSource(clock);
    const options = { id: 'f1', log: this.log, clock, waitMs: 1000 };
    this.forward = new OutgoingForward(spec, { ...options, source: this.source, log: this.oldLog });
    t.teardown(() => this.forward.stop());
    this.succeed = (predecessor) => {
      const next = new OutgoingForward(spec, { ...options, source: this.nextSource }, predecessor);
      t.teardown(() => next.stop());
      return next;
    };
  }

  provide(): void {
    const { session } = this.peer;
    const open: typeof session.open = (...parameters) => {
      const stream = session.open(...parameters);
      this.streams.push(stream);
      return this.change.forOld(stream);
    };
    this.source.provide(this.change.forOld(session, { open }));
  }

  /** The number of the stream that was opened last, once the peer has heard of it. */
  async opened(count: number): Promise<number> {
    await eventually(() => {
      this.pump();
      return this.texts.filter((text) => text.startsWith('OPEN')).length === count;
    });
    return this.streams.at(-1)?.id ?? -1;
  }
}

test('the listener of an outgoing forward stays, so do its connections, and those that wait for a session', async (t) => {
  const change = await ChangeHere.prepare();
  const scene = new OutgoingScene(t, change, 'x:0');
  await scene.forward.start();
  const port = Number(/\d+$/.exec(scene.forward.endpointText)?.[0]);
  scene.provide();
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
  // Nobody accepts yet, and nobody is refused.
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
  await scene.next.stop();
});

test('a connection to a unix socket is not read before the peer has accepted its stream, in the successor neither', async (t) => {
  const change = await ChangeHere.prepare();
  const path = join(temporaryFolder(t), 'local');
  const scene = new OutgoingScene(t, change, `x:${path}`);
  await scene.forward.start();
  scene.provide();
  const socket = localSocket(t, { path });
  socket.write('hello');
  const id = await scene.opened(1);
  await scene.handOver();
  await scene.next.goOn();
  await turns();
  scene.pump();
  t.is(scene.streams[0]?.sentBytes, 0);
  scene.peer.send(FRAME_TYPE.ACCEPT, id);
  t.is((await scene.received(5)).toString(), 'hello');
  t.deepEqual(scene.eventTypes, ['listening', 'stream-opened']);
});

test('who is asked for a line, or waits for its answer, is an obstacle until then', async (t) => {
  const change = await ChangeHere.prepare();
  const path = join(temporaryFolder(t), 'local');
  const scene = new OutgoingScene(t, change, `*:vsock-mux:${path}`);
  await scene.forward.start();
  scene.provide();
  const socket = localSocket(t, { path });
  await eventually(() => scene.forward.openCount === 1);
  t.deepEqual(scene.forward.obstacles(), [`a connection to vsock-mux:${path} (*) that has not said what it wants`]);
  t.throws(() => scene.forward.capture(change.keep, () => 0), { code: 'upgrade-failed' });
  socket.write('CONNECT ssh\n');
  const id = await scene.opened(1);
  t.deepEqual(scene.forward.obstacles(), [`stream ${id} to vsock-mux:${path} (*), which the peer has not answered`]);
  scene.peer.send(FRAME_TYPE.ACCEPT, id);
  await once(socket, 'data');
  t.deepEqual(scene.forward.obstacles(), []);
  await scene.handOver();
  await scene.next.goOn();
  socket.write('and now');
  t.is((await scene.received(7)).toString(), 'and now');
});

test('a connection whose bytes pass a filter is an obstacle', async (t) => {
  const change = await ChangeHere.prepare();
  const peer = FramePeer.established();
  const server = await localServer(t, () => undefined);
  const registry = new ServiceRegistry();
  const filter = {
    push: (bytes: Buffer) => bytes,
    end: () => Buffer.alloc(0),
    sent: () => undefined,
    close: () => undefined,
  };
  const forward = new IncomingForward(parseForwardSpec('incoming', `x:${server.port}`), {
    registry,
    log: () => undefined,
    clock: peer.clock,
    maxStreams: 10,
    filters: () => filter,
  });
  t.teardown(() => forward.stop());
  await forward.start();
  peer.onStream = (stream) => registry.serve(stream, peer.session);
  peer.sendOpen(1, 'x');
  await eventually(() => {
    peer.pump();
    return peer.streams.get(1)?.isAnswered;
  });
  t.deepEqual(forward.obstacles(), [`stream 1 to 127.0.0.1:${server.port} (x), whose bytes pass a filter`]);
  t.throws(() => forward.capture(change.keep, () => 0), { code: 'upgrade-failed', message: /filter/ });
});
