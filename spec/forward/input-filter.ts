/** Filters between a stream and its local end: credit is for the peer's bytes, whatever becomes of them. */
import { once } from 'node:events';
import type net from 'node:net';
import { Writable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import type { FilterState, InputFilter } from '../../lib/forward/input-filter.js';
import { LocalWriter } from '../../lib/forward/local-writer.js';
import { RequestLabeller } from '../../lib/storage/request-labeller.js';
import { Budget } from '../../lib/util/bounds.js';
import { temporaryFolder } from '../helpers/files.js';
import { localServer } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';
import { IncomingScene, MIB } from './forward-scene.js';

/** Passes lines on, each with this many times its length. Refuses a line that begins with `!`. */
class LineFilter implements InputFilter {
  held = Buffer.alloc(0);
  unsentBytes = 0;
  isClosed = false;

  readonly #ratio: number;

  constructor(ratio: number) {
    this.#ratio = ratio;
  }

  push(bytes: Buffer): Buffer {
    const text = Buffer.concat([this.held, bytes]);
    const end = text.lastIndexOf('\n') + 1;
    if (text[0] === '!'.charCodeAt(0)) throw new Error('refused');
    this.held = text.subarray(end);
    this.unsentBytes += end * this.#ratio;
    return Buffer.alloc(end * this.#ratio);
  }

  end(): Buffer {
    this.unsentBytes += this.held.length;
    return this.held;
  }

  sent(byteCount: number): void {
    this.unsentBytes -= byteCount;
  }

  close(): void {
    this.isClosed = true;
  }
}

/** A writer with a filter, whose target takes a piece for each call of `take`. */
function filteredWriter(ratio: number) {
  const pieces: (() => void)[] = [];
  const seen = { leftBytes: 0, credit: 0 };
  const target = new Writable({
    write(chunk: Buffer, _, done) {
      pieces.push(() => {
        seen.leftBytes += chunk.length;
        done();
      });
    },
  }).on('error', () => undefined);
  const filter = new LineFilter(ratio);
  const writer = new LocalWriter(target, (bytes) => (seen.credit += bytes), filter);
  const take = async (): Promise<boolean> => {
    pieces.shift()?.();
    await setImmediate();
    return pieces.length > 0;
  };
  return { target, filter, writer, seen, take };
}

const LINE = Buffer.from(`${'x'.repeat(19_999)}\n`);

for (const [what, ratio] of [
  ['longer', 2],
  ['shorter', 0.25],
] as const) {
  test(`credit for input that a filter makes ${what} is returned when all of its output has left, and no other`, async (t) => {
    const { target, filter, writer, seen, take } = filteredWriter(ratio);
    for (let count = 0; count < 3; count += 1) t.false(writer.write(LINE));
    t.is(seen.credit, 0);
    for (let isMore = true; isMore; ) {
      isMore = await take();
      t.is(seen.credit, LINE.length * Math.floor(seen.leftBytes / (LINE.length * ratio)));
    }
    t.is(seen.credit, 3 * LINE.length);
    writer.write(LINE.subarray(0, 500));
    t.is(seen.credit, 3 * LINE.length + 500, 'the filter holds the beginning of a line');
    writer.write(LINE.subarray(500));
    writer.write(LINE);
    t.is(seen.credit, 3 * LINE.length + 500);
    t.is(filter.unsentBytes, 2 * LINE.length * ratio);
    target.destroy();
    await once(target, 'close');
    t.is(seen.credit, 5 * LINE.length, 'what is dropped counts, too');
    t.deepEqual([filter.unsentBytes, filter.isClosed], [0, true]);
  });
}

test('what a filter still holds comes before the end', async (t) => {
  const { target, writer, seen, take } = filteredWriter(2);
  writer.write(LINE);
  writer.write(Buffer.from('rest'));
  writer.end();
  while (await take());
  await eventually(() => target.writableFinished);
  t.deepEqual(seen, { leftBytes: 2 * LINE.length + 4, credit: LINE.length + 4 });
});

test('an error of a filter ends the connection, and no credit is lost', async (t) => {
  const { filter, writer, seen } = filteredWriter(2);
  writer.write(LINE);
  writer.write(Buffer.from('!\n'));
  await eventually(() => filter.isClosed);
  writer.write(LINE);
  t.deepEqual([seen.credit, filter.isClosed], [2 * LINE.length + 2, true]);

  const { scene, socket } = await IncomingScene.open(t, { filters: () => new LineFilter(2) });
  scene.sendData(1, Buffer.from('!\n'));
  await scene.seen('RESET 1');
  await once(socket.resume(), 'end');
});

const REQUEST = Buffer.from(`{"argv":["${'x'.repeat(90_000)}"]}\n`);
const LABELLED = Buffer.from(`{"argv":["${'x'.repeat(90_000)}"],"vm":"vm1"}\n`);

/** Labels the requests of each process within its own budget. */
function labellers() {
  const budgets: Budget[] = [];
  const filters = (_: string, state?: FilterState): InputFilter => {
    const budget = new Budget(64 * MIB);
    budgets.push(budget);
    return new RequestLabeller('vm1', budget, state);
  };
  return { budgets, filters };
}

for (const isTcp of [true, false]) {
  test(`a filtered stream is handed over in the middle of a request, over ${isTcp ? 'TCP' : 'a unix socket'}`, async (t) => {
    const { budgets, filters } = labellers();
    const { scene, socket, stream } = await IncomingScene.open(t, { isTcp, filters });
    const received: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => received.push(chunk)).pause();
    for (let count = 0; count < 100; count += 1) scene.sendData(1, REQUEST);
    scene.sendData(1, REQUEST.subarray(0, 50_000));
    t.true(stream.unreadBytes > MIB);
    const { connections } = await scene.handOver();
    t.is(connections[0]?.splice.writer.filter?.held.length, 50_000);
    await scene.next.goOn();
    scene.sendData(1, REQUEST.subarray(50_000));
    scene.peer.send(FRAME_TYPE.FIN, 1);
    socket.resume();
    await once(socket, 'end');
    t.true(Buffer.concat(received).equals(Buffer.concat(Array<Buffer>(101).fill(LABELLED))));
    await eventually(() => stream.unreadBytes === 0);
    t.deepEqual([budgets.length, budgets[1]?.usedBytes], [2, 0]);
    socket.end();
    await scene.seen('FIN 1');
  });
}

test('a filter gets nothing before the target has answered: the bytes may still go to another process', async (t) => {
  const path = `${temporaryFolder(t)}/target`;
  const server = await localServer(t, () => undefined, { path });
  const { budgets, filters } = labellers();
  const scene = await IncomingScene.start(t, `vsock-mux:${path}:7`, { filters });
  const connected = once(server, 'connection');
  scene.peer.sendOpen(1, 'x');
  const [socket] = (await connected) as [net.Socket];
  scene.sendData(1, REQUEST);
  scene.peer.send(FRAME_TYPE.FIN, 1);
  t.is(scene.streams[0]?.unreadBytes, REQUEST.length);
  t.is(budgets[0]?.usedBytes, 0);
  const received: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => received.push(chunk)).write('OK 1\n');
  await once(socket, 'end');
  t.is(Buffer.concat(received).toString(), `CONNECT 7\n${LABELLED.toString()}`);
});
