/** Requirements on every link, over each kind of channel. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { openSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { ttyKind } from '../../lib/channel/tty-open.js';
import { virtserialKind } from '../../lib/channel/virtserial.js';
import { vsockMuxConnectKind } from '../../lib/channel/vsock-mux.js';
import type { ErrorCode, VproxyError } from '../../lib/errors.js';
import { PollingLink } from '../../lib/link/device-link.js';
import { DuplexLink } from '../../lib/link/duplex-link.js';
import type { Link } from '../../lib/link/link.js';
import { PAGE_BYTES } from '../../lib/link/read-slab.js';
import { SocketLink } from '../../lib/link/socket-link.js';
import { readBuffered } from '../../lib/system/sockets/node-sockets.js';
import { MAX_TIMER_MS } from '../../lib/util/clock.js';
import { deferred } from '../../lib/util/concurrency.js';
import {
  DEVICE_FLAGS,
  dial,
  dialFd,
  dialKind,
  dialStdio,
  duplexPair,
  LinkRecorder,
  listen,
  makeFifos,
  makePipe,
  record,
  vsockPair,
} from '../helpers/channel-pair.js';
import { sha256, temporaryFolder } from '../helpers/files.js';
import { localServer } from '../helpers/proxies.js';
import { openPtyPair } from '../helpers/terminals.js';
import { ManualClock } from '../helpers/time.js';
import { roomOf, unixPair } from '../helpers/unix-pair.js';

/** For deadlines of an opening, which other specs test: nearly 200 tests share this process, and may take long together. */
const ENDLESS = new ManualClock();

/** `near` is under test; `far` is its other end. */
interface Ends {
  readonly near: Link;
  readonly far: Link;
}
type Open = (t: ExecutionContext) => Promise<Ends>;

const flipped =
  (open: Open): Open =>
  async (t) => {
    const { near, far } = await open(t);
    return { near: far, far: near };
  };

/** A dialling side for a listening one; the texts are for a fresh folder. */
const sockets =
  (texts: (folder: string) => readonly [listens: string, dials: string | null]): Open =>
  async (t) => {
    const [listens, dials] = texts(temporaryFolder(t));
    const accepted = deferred<Link>();
    const listener = await listen(t, listens, { onLink: (link) => accepted.resolve(link) });
    const near = await dial(t, dials ?? listener.description.replace('listen', 'connect'));
    const far = await accepted.promise;
    t.teardown(() => far.destroy());
    return { near, far };
  };

const unix = sockets((folder) => [`unix-listen:${folder}/c`, `unix-connect:${folder}/c:-`]);
const tcp = sockets(() => ['tcp-listen:127.0.0.1:0', null]);
const mux = sockets((folder) => [`vsock-mux-listen:${folder}/c_1`, `unix-connect:${folder}/c_1`]);

const RELAY = fileURLToPath(new URL('./socket-relay.js', import.meta.url));
const exec = sockets((folder) => [`unix-listen:${folder}/c`, `exec:exec ${process.execPath} ${RELAY} ${folder}/c`]);

const vsock: Open = async (t) => {
  const { near, far, port, listener } = await vsockPair(t);
  t.is(listener.description, `vsock-listen:${port}`);
  return { near, far };
};

/** Through a fake Firecracker, to the guest's end. */
const firecracker: Open = async (t) => {
  const path = join(temporaryFolder(t), 'vmm.vsock');
  const guest = deferred<Link>();
  await localServer(
    t,
    (socket) => {
      // Reads no more than the line, like the real one, so that the rest belongs to the link.
      socket.pause();
      socket.once('readable', () => {
        t.is(String(socket.read()), 'CONNECT 1234\n');
        socket.removeAllListeners('readable');
        guest.resolve(new SocketLink('guest', (onread) => readBuffered(socket, onread)));
        socket.write('');
      });
    },
    { path },
  );
  const dialling = dialKind(t, vsockMuxConnectKind(ENDLESS), { path, port: 1234 });
  const far = await guest.promise;
  t.teardown(() => far.destroy());
  far.write(Buffer.from('OK 1073741824\n'));
  return { near: await dialling, far };
};

/** Two terminals, each copied to the other, and a link to each. */
const terminals =
  (open: (t: ExecutionContext, device: string) => Link | Promise<Link>): Open =>
  async (t) => {
    const [one, other] = await openPtyPair(t);
    const [near, far] = [await open(t, one.path), await open(t, other.path)];
    for (const link of [near, far]) t.teardown(() => link.destroy());
    return { near, far };
  };

const fifos: Open = async (t) => {
  const host = makeFifos(t);
  const guest = join(temporaryFolder(t), 'mirror');
  symlinkSync(`${host}.in`, `${guest}.out`);
  symlinkSync(`${host}.out`, `${guest}.in`);
  return { near: await dial(t, `pipe-open:${host}`), far: await dial(t, `pipe-open:${guest}:-`) };
};

const stdio: Open = async (t) => {
  const [up, down] = [makePipe(t), makePipe(t)];
  return { near: await dialStdio(t, down.out, up.in), far: await dialStdio(t, up.out, down.in) };
};

const duplexes =
  (open: (t: ExecutionContext) => Promise<[Duplex, Duplex]> | [Duplex, Duplex]): Open =>
  async (t) => {
    const [one, other] = await open(t);
    const [near, far] = [new DuplexLink('near', one), new DuplexLink('far', other)];
    for (const link of [near, far]) t.teardown(() => link.destroy());
    return { near, far };
  };

async function unixDuplexes(t: ExecutionContext): Promise<[Duplex, Duplex]> {
  const { near, far } = await unixPair(t, false);
  return [near, far];
}

/** The kinds, with the code when the other end closes; null if that cannot be detected. */
const KINDS: readonly (readonly [name: string, open: Open, end: ErrorCode | null])[] = [
  ['unix-connect', unix, 'channel-closed'],
  ['unix-listen', flipped(unix), 'channel-closed'],
  ['tcp-connect', tcp, 'channel-closed'],
  ['tcp-listen', flipped(tcp), 'channel-closed'],
  ['vsock-connect', vsock, 'channel-closed'],
  ['vsock-listen', flipped(vsock), 'channel-closed'],
  ['vsock-mux-connect', firecracker, 'channel-closed'],
  ['vsock-mux-listen', flipped(mux), 'channel-closed'],
  ['exec', exec, 'channel-closed'],
  ['stdio over pipes', stdio, 'channel-ended'],
  ['a pair in memory', duplexes(duplexPair), 'channel-closed'],
  ['sockets as Duplex', duplexes(unixDuplexes), 'channel-closed'],
  ['pipe-open', fifos, null],
  [
    'tty-open',
    terminals((t, device) => {
      execFileSync('stty', ['-F', device, 'sane']);
      return dialKind(t, ttyKind('/sys', ENDLESS), { path: device, baud: 115_200 });
    }),
    null,
  ],
  ['fd over a terminal', terminals((t, device) => dialFd(t, openSync(device, DEVICE_FLAGS))), null],
  [
    'virtserial-open over a terminal',
    terminals((t, device) => {
      const folder = temporaryFolder(t);
      return dialKind(t, virtserialKind({ dev: folder, sys: folder }), device);
    }),
    null,
  ],
  ['the fallback that polls', terminals((_t, device) => new PollingLink('p', openSync(device, DEVICE_FLAGS))), null],
];

const PIECE = Buffer.alloc(65_536, 'x');

/** Writes in pieces of 1, 100, 4096, 70000 and 131072 bytes, waiting for a drain whenever one is needed. */
async function writeAll(link: Link, handler: LinkRecorder, bytes: Buffer): Promise<void> {
  const sizes = [1, 100, 4096, 70_000, 131_072];
  for (let offset = 0, turn = 0; offset < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1;
    const piece = Buffer.from(bytes.subarray(offset, offset + size));
    const drains = handler.drainCount + 1;
    offset += size;
    if (link.write(piece)) piece.fill(0xee);
    else await handler.drained(drains);
  }
}

/** Writes until the link buffers data, and returns how much. */
function fill(link: Link): number {
  let bytes = 0;
  do bytes += PIECE.length;
  while (link.write(Buffer.from(PIECE)));
  return bytes;
}

for (const [name, open, end] of KINDS) {
  /** Both ends; the far one is read, and the near one if it is `started`. */
  async function start(t: ExecutionContext, { started = true, keeps = false } = {}) {
    const { near, far } = await open(t);
    const [nearHandler, farHandler] = [new LinkRecorder({ keeps }), new LinkRecorder()];
    if (started) near.start(nearHandler);
    far.start(farHandler);
    /** Starts the near one with a handler that does this first for all received bytes. */
    const startWith = (act: () => void): void => {
      const onBytes = (bytes: Buffer): boolean => {
        act();
        return nearHandler.onBytes(bytes);
      };
      const onClosed = (reason: VproxyError): void => nearHandler.onClosed(reason);
      near.start({ onBytes, onDrain: () => nearHandler.onDrain(), onClosed });
    };
    return { near, far, nearHandler, farHandler, startWith };
  }

  test(`${name}: a megabyte passes both ways at once, in tiny and large writes, also into kept buffers`, async (t) => {
    const { near, far, nearHandler, farHandler } = await start(t, { keeps: true });
    const [up, down] = [randomBytes(1_000_003), randomBytes(1_000_033)];
    await Promise.all([
      writeAll(near, nearHandler, up),
      writeAll(far, farHandler, down),
      nearHandler.received(down.length),
      farHandler.received(up.length),
    ]);
    t.is(sha256(farHandler.bytes), sha256(up));
    t.is(sha256(nearHandler.bytes), sha256(down));
    t.is(near.unwrittenBytes, 0);
  });

  test(`${name}: a write that is buffered reports it, and a drain follows; parts arrive in order`, async (t) => {
    const { near, far } = await open(t);
    const nearHandler = record(near);
    const filled = fill(near);
    t.true(near.unwrittenBytes > 0);
    t.is(nearHandler.drainCount, 0);
    near.write(Buffer.from('one '));
    near.writeParts([Buffer.from('two '), Buffer.from('thr'), Buffer.from('ee')]);
    const farHandler = record(far);
    await nearHandler.drained();
    t.deepEqual([near.unwrittenBytes, nearHandler.drainCount], [0, 1]);
    await farHandler.received(filled + 13);
    t.is(farHandler.bytes.subarray(-13).toString(), 'one two three');
  });

  test(`${name}: close delivers queued data, then reports shutdown once`, async (t) => {
    const { near, far } = await open(t);
    const nearHandler = record(near);
    const filled = fill(near);
    near.close(MAX_TIMER_MS);
    near.close(MAX_TIMER_MS);
    t.true(near.write(Buffer.from('too late')));
    const farHandler = record(far);
    await farHandler.received(filled);
    t.is((await nearHandler.closed).code, 'shutdown');
    near.destroy();
    t.deepEqual([nearHandler.closings.length, farHandler.byteCount], [1, filled]);
  });

  for (const [what, endLink] of [
    ['close drops unread data at its timeout', (link: Link) => [MAX_TIMER_MS, 20].forEach((ms) => link.close(ms))],
    ['destroy ends it at once', (link: Link) => link.destroy()],
  ] as const) {
    test(`${name}: ${what}, and nothing is called afterwards but onClosed`, async (t) => {
      const { near, far } = await open(t);
      const handler = record(near);
      fill(near);
      endLink(near);
      endLink(near);
      t.is((await handler.closed).code, 'shutdown');
      record(far);
      await new Promise((resolve) => setImmediate(resolve));
      t.deepEqual([handler.closings.length, handler.drainCount], [1, 0]);
    });
  }

  test(`${name}: a handler may destroy the link while it receives bytes`, async (t) => {
    const { near, far, nearHandler, startWith } = await start(t, { started: false });
    for (let count = 0; count < 8; count++) far.write(Buffer.from(PIECE));
    startWith(() => near.destroy());
    t.is((await nearHandler.closed).code, 'shutdown');
    t.is(nearHandler.pieces.length, 1);
  });

  test(`${name}: a link paused while it delivers bytes delivers the next ones when resumed`, async (t) => {
    const { near, far, nearHandler, farHandler, startWith } = await start(t, { started: false });
    let [isPaused, pauses] = [false, 0];
    startWith(() => {
      t.false(isPaused);
      isPaused = true;
      pauses += 1;
      near.pause();
      // Two turns: a pending read would arrive in the first.
      setImmediate(setImmediate, () => {
        isPaused = false;
        near.resume();
      });
    });
    const sent = randomBytes(500_000);
    await writeAll(far, farHandler, sent);
    await nearHandler.received(sent.length);
    t.is(sha256(nearHandler.bytes), sha256(sent));
    t.true(pauses > 1);
  });

  test(`${name}: a link that closed before its start reports it when started`, async (t) => {
    const { near } = await open(t);
    near.destroy();
    await new Promise((resolve) => setImmediate(resolve));
    const handler = record(near);
    t.is(handler.closings.length, 0, 'not from inside start');
    t.is((await handler.closed).code, 'shutdown');
  });

  if (end === null) continue;

  for (const how of ['close', 'destroy'] as const) {
    test(`${name}: the other end's ${how} is seen once, as ${end}`, async (t) => {
      const { far, nearHandler } = await start(t);
      far.write(Buffer.from('bye'));
      far[how]();
      t.is((await nearHandler.closed).code, end);
      t.is(nearHandler.bytes.toString(), 'bye');
      t.is(nearHandler.closings.length, 1);
    });
  }

  test(`${name}: close does not wait if the other end closes too`, async (t) => {
    const { near, nearHandler, farHandler } = await start(t);
    near.close(MAX_TIMER_MS);
    t.is((await nearHandler.closed).code, 'shutdown');
    t.is((await farHandler.closed).code, end);
  });

  test(`${name}: the last data arrives although the closing side leaves much unread`, async (t) => {
    const { near, far, farHandler } = await start(t);
    for (let count = 0; count < 40; count++) far.write(Buffer.from(PIECE));
    near.write(Buffer.from('goaway'));
    near.close();
    t.is((await farHandler.closed).code, end);
    t.is(farHandler.bytes.toString(), 'goaway');
  });
}

// The amount read in one turn of the event loop (docs/architecture.md, "Turns and memory").

for (const hasInteractive of [true, false]) {
  const [what, how] = hasInteractive
    ? ['beside an interactive stream', 'once per turn, to the last byte']
    : ['without an interactive stream', 'for as long as there is more'];
  test(`${what} a channel is read ${how}`, async (t) => {
    const { near, far } = await unixPair(t);
    const bytes = roomOf(near);
    const link = new SocketLink('far', (onread) => readBuffered(far, onread), { slabBytes: 2 * PAGE_BYTES });
    t.teardown(() => link.destroy());
    let [readsOfTurn, mostReads, readBytes] = [0, 0, 0];
    const isRead = deferred();
    link.start({
      hasInteractive: () => hasInteractive,
      onBytes: (piece) => {
        readsOfTurn += 1;
        readBytes += piece.length;
        return false;
      },
      onDrain: () => undefined,
      onClosed: () => undefined,
    });
    const endTurn = (): void => {
      mostReads = Math.max(mostReads, readsOfTurn);
      readsOfTurn = 0;
      if (readBytes < bytes) setImmediate(endTurn);
      else isRead.resolve();
    };
    setImmediate(endTurn);
    await isRead.promise;
    if (hasInteractive) t.is(mostReads, 1);
    else t.true(mostReads > 4, `${mostReads}`);
  });
}
