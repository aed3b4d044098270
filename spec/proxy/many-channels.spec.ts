/** Many channels in one process: the guest on one of them hardly affects its neighbours. */
import { once } from 'node:events';
import { join } from 'node:path';
import test from 'ava';
import { measureEcho, startHostile, startNeighbours } from '../helpers/neighbours.js';
import { TestProxy } from '../helpers/proxies.js';
import { within } from '../helpers/time.js';
import { staysQuick } from './beside-hostile.js';

// `many-channels.slow.spec.ts` has everything else that a guest may do.
const LARGE = 'sends DATA in large frames';
test.serial(`a neighbour's echoes beside a guest that ${LARGE} stay within twice the quiet time`, (t) =>
  staysQuick(t, LARGE),
);

test.serial('a guest at its limit of streams takes none from its neighbour', async (t) => {
  const { folder, guest } = await startNeighbours(t);
  await startHostile(t, 'holds as many streams as it may', folder);
  const streams = await Promise.all(Array.from({ length: 100 }, () => guest.proxy.connect('echo')));
  await Promise.all(
    streams.map(async (stream) => {
      const answer = once(stream, 'data');
      stream.write('x');
      await within(30_000, 'an echo', answer);
      stream.destroy();
    }),
  );
  t.pass();
});

test.serial('a guest that dies in the middle of a frame affects no one else; the next one is served', async (t) => {
  const setup = await startNeighbours(t);
  const { folder, vproxy } = setup;
  const guest = await startHostile(t, 'sends DATA in large frames', folder);
  guest.kill('SIGKILL');
  await vproxy.waitForLine(/hostile: session on .* ended: .*\(channel-closed\)/);
  await measureEcho(setup);
  const next = new TestProxy(t, `unix-connect:${join(folder, 'hostile.sock')}`);
  await next.start();
  const stream = await next.proxy.connect('echo');
  const answer = once(stream, 'data');
  stream.write('x');
  await within(30_000, "the next guest's echo", answer);
  stream.destroy();
  t.false(vproxy.lines.some((line) => /good: .* ended|internal: /.test(line)));
});
