/**
 * A program that is handed over to, by descriptor 3; its argument says what becomes of that. `use` tells what came, uses it, and
 * stays; `decline` says why not; `ignore` reads nothing; `die` ends in the middle; `rubbish` sends what makes no sense, `quit` nothing.
 */
import { createHash } from 'node:crypto';
import { fstatSync, readdirSync, readSync, writeSync } from 'node:fs';
import net from 'node:net';
import { HandoverPipe, loadHandoverCalls } from '../../lib/system/handover-pipe.js';
import { closeAll } from '../../lib/system/unix-messages.js';

/** What a descriptor is: the program writes its place in the list to those of a stream and to each connection of a listener. */
export type Kind = 'stream' | 'listener' | 'device';

const PIPE = 3;
const TIMEOUT_MS = 20_000;

const pipe = new HandoverPipe(await loadHandoverCalls(), PIPE);
const openCount = (): number => readdirSync('/proc/self/fd').length;

function use(): void {
  const before = openCount();
  const { document, descriptors } = pipe.receiveAll(Number.POSITIVE_INFINITY);
  const files = descriptors.map((fd) => {
    const { dev, ino } = fstatSync(fd);
    return `${dev}:${ino}`;
  });
  const sha256 = createHash('sha256').update(document).digest('hex');
  pipe.sendMessage({ kind: 'ready', sha256, files, added: openCount() - before }, TIMEOUT_MS);
  if (pipe.receiveMessage(TIMEOUT_MS).kind !== 'go') throw new Error('no go');
  const kinds = descriptors.length === 0 ? [] : (JSON.parse(document.toString()) as Kind[]);
  kinds.forEach((kind, index) => {
    const fd = descriptors[index] ?? -1;
    if (kind === 'stream') writeSync(fd, `${index}\n`);
    if (kind === 'listener') net.createServer((socket) => socket.end(`${index}\n`)).listen({ fd });
  });
}

function decline(): void {
  const before = openCount();
  try {
    closeAll(pipe.receiveAll(TIMEOUT_MS).descriptors);
    pipe.sendMessage({ kind: 'ready' }, TIMEOUT_MS);
  } catch (error) {
    pipe.sendMessage({ kind: 'failed', text: String(error), added: openCount() - before }, TIMEOUT_MS);
  }
}

const first = { kind: 'warm', pid: process.pid };
// It is told to end by the end of its input.
process.stdin.on('end', () => process.exit()).resume();
// With a handler a signal interrupts what waits; without one it ends the process.
process.on('SIGUSR2', () => undefined);
const [, , what = ''] = process.argv;
if (what === 'quit') process.exit();
if (what === 'rubbish') writeSync(PIPE, 'usage: something else\n');
else pipe.sendMessage(first, TIMEOUT_MS);
if (what === 'use') use();
if (what === 'decline') decline();
if (what === 'die') {
  for (let bytes = 0; bytes < 1_000_000; ) bytes += readSync(PIPE, Buffer.alloc(65_536));
  process.exit();
}
