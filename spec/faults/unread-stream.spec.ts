/** A program that accepts and never reads holds up its own stream, and nothing else. */
import test from 'ava';
import { eventually, within } from '../helpers/eventually.js';
import { processPair } from '../helpers/process-pair.js';
import { echo, localServer, localSocket, readToEnd } from '../helpers/proxies.js';

const OTHERS = 50;
const BYTES = 200_000;

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
