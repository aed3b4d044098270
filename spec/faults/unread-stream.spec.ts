/** A program that accepts and never reads holds up its own streams, and nothing else. */
import { once } from 'node:events';
import type net from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { processPair } from '../helpers/process-pair.js';
import { echo, localServer, localSocket, readToEnd } from '../helpers/proxies.js';
import { eventually, within } from '../helpers/time.js';

const OTHERS = 50;
const BYTES = 200_000;

const UNREAD = 1000;
const AT_ONCE = 100;
/** More than the system and a window of the stream take while the reader does not read. */
const UNREAD_BYTES = 600_000;
const TURNS = 20;

test('50 streams run beside one whose target never reads, and that one is held back', async (t) => {
  const [deaf, target] = [await localServer(t, (socket) => socket.pause()), await localServer(t, echo)];
  const { host } = await processPair(t, {
    host: ['-o', 'deaf:0', '-o', 'echo:0'],
    guest: ['-i', `deaf:${deaf.port}`, '-i', `echo:${target.port}`],
  });
  const stuck = localSocket(t, { host: '127.0.0.1', port: await host.listeningPort('deaf') });
  const flood = Buffer.alloc(1_000_000);
  const pour = (): void => void stuck.write(flood, (error) => (error ? undefined : pour()));
  pour();
  let takenBytes = -1;
  await eventually(
    () => {
      const before = takenBytes;
      takenBytes = stuck.bytesWritten - stuck.writableLength;
      return takenBytes > 0 && takenBytes === before;
    },
    { intervalMs: 200, what: 'the end of all room' },
  );
  const port = await host.listeningPort('echo');
  const answers = Array.from({ length: OTHERS }, (_, index) => {
    const socket = localSocket(t, { host: '127.0.0.1', port });
    const answer = readToEnd(socket);
    socket.end(Buffer.alloc(BYTES, index));
    return answer;
  });
  for (const [index, answer] of (await within(15_000, '50 streams', Promise.all(answers))).entries()) {
    t.true(answer.equals(Buffer.alloc(BYTES, index)));
  }
  // The system's buffers take a few megabytes a socket, and the windows at most 32 MiB.
  t.true(takenBytes < 64_000_000, `${takenBytes}`);
  t.true(stuck.writableLength > 0);
});

test('1,000 streams whose target never reads hold up no keystroke of the 1,001st, and lose nothing', async (t) => {
  t.timeout(120_000);
  const path = join(temporaryFolder(t), 'deaf.sock');
  const unread: net.Socket[] = [];
  await localServer(t, (socket) => void unread.push(socket.pause()), { path });
  const target = await localServer(t, echo);
  const { host, guest } = await processPair(t, {
    host: ['-o', 'deaf:0', '-o', 'echo:0'],
    guest: ['-i', `deaf:${path}`, '-i', `echo:${target.port}`],
  });
  const bytes = Buffer.alloc(UNREAD_BYTES, 'unread');
  const deaf = { host: '127.0.0.1', port: await host.listeningPort('deaf') };
  while (unread.length < UNREAD) {
    const wanted = unread.length + AT_ONCE;
    for (let count = 0; count < AT_ONCE; count += 1) localSocket(t, deaf).end(bytes);
    await eventually(() => unread.length === wanted, { what: `${wanted} streams`, timeoutMs: 30_000 });
  }

  const typing = localSocket(t, { host: '127.0.0.1', port: await host.listeningPort('echo') });
  for (let turn = 0; turn < TURNS; turn += 1) {
    typing.write(`${turn}`);
    const [letter] = (await within(10_000, 'an echo', once(typing, 'data'))) as [Buffer];
    t.is(letter.toString(), `${turn}`);
  }
  // Node reads one buffer of a socket before anything asks for it.
  t.true(unread.every((socket) => socket.bytesRead === socket.readableLength && !socket.destroyed));
  const [first] = unread;
  if (first === undefined) throw new Error('there is none');
  const whole = readToEnd(first);
  first.resume();
  t.true((await whole).equals(bytes));
  for (const { lines } of [host, guest])
    t.false(
      lines.some((line) => / was reset|ended/.test(line)),
      lines.join('\n'),
    );
});
