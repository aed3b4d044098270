/** `vproxy upgrade` while much waits for a peer: each process has it once, and one that would not fit is refused. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { decodeDocument, encodeDocument, type HandoverDocument } from '../../cli/upgrade/document.js';
import { requireMemory } from '../../cli/upgrade/predecessor.js';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { temporaryFolder } from '../helpers/files.js';
import { creditPayload } from '../helpers/frame-maker.js';
import { localServer } from '../helpers/proxies.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { eventually } from '../helpers/time.js';
import { upgrade } from '../helpers/upgrades.js';
import { isRunning, spawnVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

const MIB = 2 ** 20;

/** A figure of a process, in bytes: its memory now, or the most that it had. */
function memoryOf(pid: number, name: 'VmRSS' | 'VmHWM'): number {
  const [, kib] = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kib ?? 0) * 1024;
}

test('what waits is handed over without a second copy in either process', async (t) => {
  const folder = temporaryFolder(t);
  const socket = join(folder, 'control.sock');
  const target = await localServer(t, (local) => {
    const fill = (): void => {
      while (local.write(Buffer.alloc(65_536)));
    };
    local.on('drain', fill);
    fill();
  });
  const words = ['-c', `unix-listen:${folder}/channel.sock,resume=600s`, '-i', `x:${target.port}`];
  const vproxy = spawnVproxy(t, [...words, '--control', socket]);
  await vproxy.waitForLine(TAKING_CONTROL);
  const peer = await SocketPeer.established(join(folder, 'channel.sock'), { features: ['resume'] });
  t.teardown(() => peer.socket.destroy());
  const emptyBytes = memoryOf(vproxy.pid, 'VmRSS');
  // It reads all, and acknowledges nothing.
  peer.send(FRAME_TYPE.SECRET, 0, Buffer.alloc(32, 's'));
  peer.sendOpen(1, 'x');
  for (const id of [0, 1]) peer.send(FRAME_TYPE.CREDIT, id, creditPayload(2n ** 40n));
  let before = 0;
  const isFull = (): boolean => {
    const bytes = memoryOf(vproxy.pid, 'VmRSS');
    const isStill = bytes - emptyBytes > 30 * MIB && bytes - before < MIB;
    before = bytes;
    return isStill;
  };
  await eventually(isFull, { intervalMs: 500, timeoutMs: 60_000, what: 'a full backlog' });
  const heldBytes = before - emptyBytes;
  let mostBytes = 0;
  const isOver = eventually(
    () => {
      if (!isRunning(vproxy.pid)) return true;
      mostBytes = Math.max(mostBytes, memoryOf(vproxy.pid, 'VmHWM'));
      return false;
    },
    { intervalMs: 2, timeoutMs: 60_000 },
  ).catch(() => undefined);
  const { pid } = await upgrade(t, socket);
  await isOver;
  const what = `of ${heldBytes} held bytes: ${mostBytes - before} more, then ${memoryOf(pid, 'VmHWM') - emptyBytes}`;
  t.true(mostBytes - before < heldBytes / 2, what);
  t.true(memoryOf(pid, 'VmHWM') - emptyBytes < 1.5 * heldBytes, what);
});

test('a document has short bytes in it, and is followed by long ones as they are', (t) => {
  const [short, long] = [Buffer.from('short'), Buffer.alloc(100_000, 'long')];
  const state = { pieces: [short, long, short.subarray(0, 0), long.subarray(1)], counts: { sessions: 1 } };
  const { bytes, pieces } = encodeDocument(state as unknown as HandoverDocument);
  t.true(bytes.length < 1000);
  t.deepEqual(
    pieces.map(({ buffer }) => buffer),
    [long.buffer, long.buffer],
  );
  const left = [...pieces];
  const decoded: unknown = decodeDocument(bytes, (byteCount) => {
    const piece = left.shift() ?? Buffer.alloc(0);
    t.is(piece.length, byteCount);
    return piece;
  });
  t.deepEqual(decoded, state);
});

test('an upgrade that would not fit is refused with the figures', (t) => {
  const encoded = { bytes: Buffer.alloc(MIB), pieces: [Buffer.alloc(16 * MIB), Buffer.alloc(16 * MIB)] };
  const boundBy = 'the control group /system.slice/vproxy.service';
  t.notThrows(() => requireMemory(encoded, { bytes: 44 * MIB, boundBy }));
  t.notThrows(() => requireMemory(encoded, null));
  t.throws(() => requireMemory(encoded, { bytes: 43 * MIB, boundBy }), {
    code: 'upgrade-failed',
    message:
      /^not enough memory: 33\.6 MB wait .+ needs 46\.1 MB, where the control group \S+ leaves 45\.1 MB; try again/,
  });
});
