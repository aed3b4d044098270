/** Many channels in one process: the guest on one of them hardly affects its neighbours. */
import { once } from 'node:events';
import { join } from 'node:path';
import test from 'ava';
import { FLOODS, HOSTILITIES, INSIDE_TLS } from '../helpers/hostile-guest.js';
import { besideGuest, measureEcho, requireGoodEchoes, startHostile, startNeighbours } from '../helpers/neighbours.js';
import { TestProxy } from '../helpers/proxies.js';
import { within } from '../helpers/time.js';

const MEASURING = { rounds: 5, echoesPerRound: 150, attempts: 5 };

for (const what of Object.keys(HOSTILITIES)) {
  test.serial(`a neighbour's echoes beside a guest that ${what} stay within twice the quiet time`, async (t) => {
    const setup = await startNeighbours(t, { isSecured: what === INSIDE_TLS });
    const guest = await startHostile(t, what, setup.folder);
    const timesBusier = FLOODS.has(what) ? 2 : 0;
    await requireGoodEchoes(t, setup, besideGuest(setup, guest), { ...MEASURING, timesBusier });
    // Otherwise the guest has not disturbed anything.
    t.is(guest.exitCode, null);
    t.deepEqual(
      setup.vproxy.lines.filter((line) => /good: .* ended|internal: /.test(line)),
      [],
    );
  });
}

test.serial('a guest that may open no more streams takes none of its neighbour', async (t) => {
  const { folder, guest } = await startNeighbours(t);
  await startHostile(t, 'holds as many streams as it may', folder);
  const streams = await Promise.all(Array.from({ length: 300 }, () => guest.proxy.connect('echo')));
  await Promise.all(
    streams.map(async (stream) => {
      const answer = once(stream, 'data');
      stream.write('x');
      await within(20_000, 'an echo', answer);
      stream.destroy();
    }),
  );
  t.pass();
});

test.serial(
  'a guest that dies in the middle of a frame takes nothing along, and its channel serves the next one',
  async (t) => {
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
    await within(20_000, "the next guest's echo", answer);
    stream.destroy();
    t.false(vproxy.lines.some((line) => /good: .* ended|internal: /.test(line)));
  },
);
