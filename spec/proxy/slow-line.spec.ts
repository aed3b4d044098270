import { once } from 'node:events';
import { join } from 'node:path';
import test from 'ava';
import { parseChannel } from '../../lib/channel/address/address.js';
import { temporaryFolder } from '../helpers/files.js';
import { echo, localServer, localSocket, TestProxy } from '../helpers/proxies.js';
import { joinBySlowLine } from '../helpers/relays.js';

const BAUD = 115_200;

test('with what tty-open announces, a keystroke beside a bulk stream is echoed within 500 ms at 115,200 baud', async (t) => {
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
  const host = new TestProxy(t, `unix-listen:${one}${options}`, { outgoing: ['keys:0', 'bulk:0'] });
  const guest = new TestProxy(t, `unix-listen:${other}${options}`, {
    incoming: [`keys:${keys.port}`, `bulk:${bulk.port}`],
  });
  await host.start();
  await guest.start();
  // With a start bit and a stop bit, a byte takes ten.
  const line = joinBySlowLine(t, one, other, BAUD / 10);
  await Promise.all([host.event('session-established'), guest.event('session-established')]);

  const download = localSocket(t, { host: '127.0.0.1', port: host.port('bulk') });
  let received = 0;
  download.on('data', (bytes: Buffer) => {
    received += bytes.length;
  });
  const typist = localSocket(t, { host: '127.0.0.1', port: host.port('keys') });
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
