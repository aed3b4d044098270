/** An emulated serial line (isa-serial) as the channel: slow, without an end of file, and with a terminal in the guest. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

import test from 'ava';

import { within } from '../helpers/time.js';
import { checkEssentials } from './rig/check-everything.js';
import { HostSide } from './rig/host-side.js';
import { killGuestVproxy, killHostVproxy, startTransfers } from './rig/mid-transfer.js';
import { useLaboratory } from './rig/use-laboratory.js';

const laboratory = useLaboratory(test, {
  guest: () => ({ hasSerialLine: true }),
  host: (guest) => HostSide.start(`unix-connect:${guest.serialPath},frame=4096`),
  guestArgs: () => ['-c', 'tty-open:/dev/ttyS1'],
});

const TEST_MS = 180_000;
const FILE_BYTES = 256 << 10;
const PROGRESS_BYTES = 16 << 10;
// Only for a key that is never echoed: what is shown is that it comes before the next key is pressed.
const ECHO_MS = 20_000;

test.serial('storage, ssh and files work over a serial line', async (t) => {
  t.timeout(TEST_MS);
  await checkEssentials(t, laboratory(), FILE_BYTES);
});

test.serial('each letter that is typed is echoed before the next one is, also beside transfers', async (t) => {
  t.timeout(TEST_MS);
  const typist = connect({ port: await laboratory().port('echo'), host: '127.0.0.1', noDelay: true });
  t.teardown(() => typist.destroy());
  t.log(`alone: ${(await type(typist, 'top')).join(', ')} ms`);
  const transfers = await startTransfers(laboratory(), PROGRESS_BYTES);
  t.log(`beside a transfer each way: ${(await type(typist, 'top')).join(', ')} ms`);
  t.true(transfers.every(({ bytes }) => bytes() > PROGRESS_BYTES));
  // They would go on for ever.
  laboratory().host.kill('SIGKILL');
  await laboratory().host.exited;
  laboratory().startHost();
  await laboratory().waitForSession(0);

  async function type(socket: Socket, word: string): Promise<number[]> {
    const tookMs: number[] = [];
    for (const letter of word) {
      const began = performance.now();
      socket.write(letter);
      const [echo] = (await within(ECHO_MS, `the echo of ${letter}`, once(socket, 'data'))) as [Buffer];
      t.is(echo.toString(), letter);
      tookMs.push(Math.round(performance.now() - began));
    }
    return tookMs;
  }
});

test.serial('SIGTERM ends the vproxy of the guest, which puts the line back as it was', async (t) => {
  t.timeout(TEST_MS);
  const { guest, guestVproxy, host } = laboratory();
  const settings = () => guest.agent.output('stty -F /dev/ttyS1 -a');
  const isCooked = /(?<!-)\bicanon\b[^]*(?<!-)\becho\b/;
  t.notRegex(await settings(), isCooked);
  const from = host.lines.length;
  await guestVproxy.kill('TERM');
  t.is(await guestVproxy.waitForEnd(), 0);
  t.regex(await settings(), isCooked);
  await laboratory().startGuestVproxy();
  await laboratory().waitForSession(from);
});

test.serial('the vproxy of the guest is killed in mid-transfer: all works again over the serial line', async (t) => {
  t.timeout(TEST_MS);
  await killGuestVproxy(t, laboratory(), PROGRESS_BYTES);
  await checkEssentials(t, laboratory(), FILE_BYTES);
});

test.serial('the vproxy of the host is killed in mid-transfer: all works again over the serial line', async (t) => {
  t.timeout(TEST_MS);
  await killHostVproxy(t, laboratory(), PROGRESS_BYTES);
  await checkEssentials(t, laboratory(), FILE_BYTES);
});
