/**
 * A program that is handed over to through descriptor 3; its argument chooses what it does: `use` reports and uses everything,
 * and stays; `decline` gives a reason; `ignore` reads nothing; `die` exits halfway; `rubbish` sends garbage, `quit` nothing.
 */
import { createHash } from 'node:crypto';
import { fstatSync, readdirSync, readSync, writeSync } from 'node:fs';
import net from 'node:net';
import { HandoverPipe, loadHandoverCalls } from '../../lib/system/handover-pipe.js';
import { closeAll } from '../../lib/system/unix-messages.js';

/** The kinds of descriptors: the program writes their place in the list to streams, and to each connection of a listener. */
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
// The end of its input tells it to exit.
process.stdin.on('end', () => process.exit()).resume();
// With a handler a signal interrupts a blocking call; without one it ends the process.
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
