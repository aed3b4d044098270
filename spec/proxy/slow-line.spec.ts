import { once } from 'node:events';
import { join } from 'node:path';
import test from 'ava';
import { parseChannel } from '../../lib/channel/address/address.js';
import { type Clock, systemClock } from '../../lib/util/clock.js';
import { temporaryFolder } from '../helpers/files.js';
import { echo, localServer, localSocket, startProxy } from '../helpers/proxies.js';
import { joinBySlowLine } from '../helpers/relays.js';

const BAUD = 115_200;

test('with the limits of tty-open, a keystroke beside a bulk stream is echoed within 500 ms at 115,200 baud', async (t) => {
  const { frameBytes, inFlightBytes } = parseChannel('tty-open:/dev/ttyS1').traits;
  const options = `,frame=${frameBytes},in-flight=${inFlightBytes}`;
  const folder = temporaryFolder(t);
  const [one, other] = [join(folder, 'host'), join(folder, 'guest')];
  const keys = await localServer(t, echo);
  const bulk = await localServer(t, (socket) => {
    const piece = Buffer.alloc(16_384, 'bulk');
    const send = () => {
      while (socket.writable && socket.write(piece));
    };
    socket.on('drain', send);
    send();
  });
  // Line time, which stops while a busy machine keeps this process from running: otherwise the sides would measure the
  // round trip of a line with more room.
  const time = { lineMs: () => 0 };
  const clock: Clock = { now: () => time.lineMs(), schedule: (ms, callback) => systemClock.schedule(ms, callback) };
  const host = await startProxy(t, `unix-listen:${one}${options}`, { outgoing: ['keys:0', 'bulk:0'], clock });
  const incoming = [`keys:${keys.port}`, `bulk:${bulk.port}`];
  const guest = await startProxy(t, `unix-listen:${other}${options}`, { incoming, clock });
  // With a start bit and a stop bit, a byte takes ten.
  const line = joinBySlowLine(t, one, other, BAUD / 10);
  time.lineMs = () => line.timeMs();
  await Promise.all([host.event('session-established'), guest.event('session-established')]);

  const download = localSocket(t, host.port('bulk'));
  let received = 0;
  download.on('data', (bytes: Buffer) => {
    received += bytes.length;
  });
  const typist = localSocket(t, host.port('keys'));
  await once(download, 'data');
  const delays: number[] = [];
  for (let count = 0; count < 20; count += 1) {
    const beganMs = line.timeMs();
    typist.write('k');
    await once(typist, 'data');
    delays.push(Math.round(line.timeMs() - beganMs));
  }
  // A busy machine may delay one or two.
  const usual = delays.toSorted((a, b) => a - b).slice(0, -2);
  t.true(Math.max(...usual) < 500, `echoed after ${delays.join(', ')} ms`);
  t.true(received > 20_000, `${received} bytes of the bulk stream`);
  t.log(`echoed after ${delays.join(', ')} ms; ${received} bytes beside that`);
});
