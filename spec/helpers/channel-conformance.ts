/** What every link must do, as tests over a way to open a pair of them. */
import { createHash, randomBytes } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import type { ErrorCode } from '../../lib/errors.js';
import type { Link } from '../../lib/link/link.js';
import { type LinkPair, LinkRecorder } from './channel-pair.js';

interface Ends {
  readonly near: Link;
  readonly far: Link;
}

/** Declares the tests of a link; `near` is under test, `far` is its other end. */
export function testLinks(name: string, open: (t: ExecutionContext) => Promise<Ends>): void {
  test(`${name}: every byte value passes both ways unchanged`, async (t) => {
    const { near, far, nearHandler, farHandler } = await start(t, open);
    const all = Buffer.from(Array.from({ length: 256 }, (_, index) => index));
    near.write(Buffer.from(all));
    far.write(Buffer.from(all));
    await Promise.all([nearHandler.received(256), farHandler.received(256)]);
    t.deepEqual(nearHandler.bytes, all);
    t.deepEqual(farHandler.bytes, all);
  });

  test(`${name}: 5 MB pass both ways at once, in tiny and in large writes`, async (t) => {
    const { near, far, nearHandler, farHandler } = await start(t, open);
    const [up, down] = [randomBytes(5_000_011), randomBytes(5_000_017)];
    await Promise.all([
      writeAll(near, nearHandler, up),
      writeAll(far, farHandler, down),
      nearHandler.received(down.length),
      farHandler.received(up.length),
    ]);
    t.is(hash(farHandler.bytes), hash(up));
    t.is(hash(nearHandler.bytes), hash(down));
    t.is(near.unwrittenBytes, 0);
  });

  test(`${name}: buffers that the handler keeps are never written to again`, async (t) => {
    const { far, nearHandler, farHandler } = await start(t, open, { keeps: true });
    const sent = randomBytes(2_000_003);
    await Promise.all([writeAll(far, farHandler, sent), nearHandler.received(sent.length)]);
    t.is(hash(nearHandler.bytes), hash(sent));
  });

  test(`${name}: a write that is not taken at once says so, and a drain follows`, async (t) => {
    const { near, far } = await open(t);
    const [nearHandler, farHandler] = [new LinkRecorder(), new LinkRecorder()];
    near.start(nearHandler);
    let sent = 0;
    while (near.write(Buffer.alloc(65_536, sent))) sent++;
    t.true(near.unwrittenBytes > 0);
    t.is(nearHandler.drainCount, 0);
    near.write(Buffer.from('last'));
    far.start(farHandler);
    await nearHandler.drained();
    t.is(near.unwrittenBytes, 0);
    t.is(nearHandler.drainCount, 1);
    await farHandler.received((sent + 1) * 65_536 + 4);
    t.is(farHandler.bytes.subarray(-4).toString(), 'last');
  });

  test(`${name}: what is written in parts arrives in order`, async (t) => {
    const { near, farHandler } = await start(t, open);
    near.write(Buffer.from('one '));
    near.writeParts([Buffer.from('two '), Buffer.from('thr'), Buffer.from('ee')]);
    await farHandler.received(13);
    t.is(farHandler.bytes.toString(), 'one two three');
  });

  test(`${name}: close delivers what was queued, then says shutdown once`, async (t) => {
    const { near, far } = await open(t);
    const [nearHandler, farHandler] = [new LinkRecorder(), new LinkRecorder()];
    near.start(nearHandler);
    let byteCount = 0;
    while (near.unwrittenBytes === 0) {
      near.write(Buffer.alloc(65_536));
      byteCount += 65_536;
    }
    near.close(20_000);
    near.close();
    t.true(near.write(Buffer.from('too late')));
    far.start(farHandler);
    await farHandler.received(byteCount);
    t.is((await nearHandler.closed).code, 'shutdown');
    near.destroy();
    t.is(nearHandler.closings.length, 1);
    t.is(farHandler.byteCount, byteCount);
  });

  test(`${name}: close gives up what nobody reads when its time is over`, async (t) => {
    const { near } = await open(t);
    const handler = new LinkRecorder();
    near.start(handler);
    while (near.write(Buffer.alloc(65_536)));
    near.close(20);
    t.is((await handler.closed).code, 'shutdown');
    t.is(handler.closings.length, 1);
  });

  test(`${name}: destroy ends it at once, and nothing is called afterwards but onClosed`, async (t) => {
    const { near, far } = await open(t);
    const handler = new LinkRecorder();
    near.start(handler);
    while (near.write(Buffer.alloc(65_536)));
    near.destroy();
    near.destroy();
    const farHandler = new LinkRecorder();
    far.start(farHandler);
    t.is((await handler.closed).code, 'shutdown');
    t.is(handler.closings.length, 1);
    t.is(handler.drainCount, 0);
  });

  test(`${name}: a handler may destroy the link while it is given bytes`, async (t) => {
    const { near, far } = await open(t);
    const handler = new LinkRecorder();
    far.start(new LinkRecorder());
    for (let count = 0; count < 8; count++) far.write(Buffer.alloc(65_536));
    near.start({
      onBytes(bytes) {
        near.destroy();
        return handler.onBytes(bytes);
      },
      onDrain: () => handler.onDrain(),
      onClosed: (reason) => handler.onClosed(reason),
    });
    t.is((await handler.closed).code, 'shutdown');
    t.is(handler.pieces.length, 1);
  });

  test(`${name}: a link that is paused while it is given bytes gives the next ones when it is resumed`, async (t) => {
    const { near, far } = await open(t);
    const handler = new LinkRecorder();
    const farHandler = new LinkRecorder();
    far.start(farHandler);
    let isPaused = false;
    let pauses = 0;
    near.start({
      onBytes(bytes) {
        t.false(isPaused);
        isPaused = true;
        pauses += 1;
        near.pause();
        // Two turns: what was about to be read would come in the first.
        setImmediate(() =>
          setImmediate(() => {
            isPaused = false;
            near.resume();
          }),
        );
        return handler.onBytes(bytes);
      },
      onDrain: () => handler.onDrain(),
      onClosed: (reason) => handler.onClosed(reason),
    });
    const sent = randomBytes(1_000_000);
    await writeAll(far, farHandler, sent);
    await handler.received(sent.length);
    t.is(hash(handler.bytes), hash(sent));
    t.true(pauses > 1);
  });

  test(`${name}: a link that went before it was started says so when it is`, async (t) => {
    const { near } = await open(t);
    near.destroy();
    await new Promise((resolve) => setImmediate(resolve));
    const handler = new LinkRecorder();
    near.start(handler);
    t.is(handler.closings.length, 0, 'not from inside start');
    t.is((await handler.closed).code, 'shutdown');
  });
}

/** Declares the tests of links whose one side sees the end of the other; `code` is the code of such an end. */
export function testEnds(
  name: string,
  open: (t: ExecutionContext) => Promise<Ends>,
  code: ErrorCode = 'channel-closed',
): void {
  for (const how of ['close', 'destroy'] as const) {
    test(`${name}: the other end's ${how} is seen once, as ${code}`, async (t) => {
      const { far, nearHandler } = await start(t, open);
      far.write(Buffer.from('bye'));
      far[how]();
      const reason = await nearHandler.closed;
      t.is(reason.code, code);
      t.is(nearHandler.bytes.toString(), 'bye');
      t.is(nearHandler.closings.length, 1);
    });
  }

  test(`${name}: close is quick where the other end closes too`, async (t) => {
    const { near, nearHandler, farHandler } = await start(t, open);
    near.close(60_000);
    t.is((await nearHandler.closed).code, 'shutdown');
    t.is((await farHandler.closed).code, code);
  });

  test(`${name}: the last words arrive although the one who closes leaves much unread`, async (t) => {
    const { near, far, farHandler } = await start(t, open);
    for (let count = 0; count < 40; count++) far.write(Buffer.alloc(65_536));
    near.write(Buffer.from('goaway'));
    near.close();
    t.is((await farHandler.closed).code, code);
    t.is(farHandler.bytes.toString(), 'goaway');
  });
}

/** Both directions of a pair, as ends under test. */
export function bothWays(open: (t: ExecutionContext) => Promise<LinkPair>) {
  return [
    async (t: ExecutionContext): Promise<Ends> => {
      const { dialled, accepted } = await open(t);
      return { near: dialled, far: accepted };
    },
    async (t: ExecutionContext): Promise<Ends> => {
      const { dialled, accepted } = await open(t);
      return { near: accepted, far: dialled };
    },
  ] as const;
}

async function start(t: ExecutionContext, open: (t: ExecutionContext) => Promise<Ends>, options = { keeps: false }) {
  const { near, far } = await open(t);
  const nearHandler = new LinkRecorder(options);
  const farHandler = new LinkRecorder();
  near.start(nearHandler);
  far.start(farHandler);
  return { near, far, nearHandler, farHandler };
}

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

function hash(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
