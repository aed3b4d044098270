/** An emulated serial line (isa-serial) as the channel: slow, without an end of file, and with a terminal in the guest. */
import { once } from 'node:events';
import { constants } from 'node:fs';
import { connect, type Socket } from 'node:net';

import test from 'ava';

import { eventually, within } from '../helpers/time.js';
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
// Only for a key that is never echoed: the test shows that the echo comes before the next key is pressed.
const ECHO_MS = 20_000;
const COOKED = /(?<!-)\bicanon\b[^]*(?<!-)\becho\b/;

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
  // Without this, the transfers would go on for ever.
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
  const { guestVproxy, host } = laboratory();
  t.notRegex(await lineSettings(), COOKED);
  const from = host.lines.length;
  await guestVproxy.kill('TERM');
  t.is(await guestVproxy.waitForEnd(), 0);
  t.regex(await lineSettings(), COOKED);
  await laboratory().startGuestVproxy();
  await laboratory().waitForSession(from);
});

test.serial('a line that takes nothing is opened, and put back at SIGTERM', async (t) => {
  t.timeout(TEST_MS);
  const { guestVproxy, host } = laboratory();
  host.kill('SIGSTOP');
  t.teardown(() => host.kill('SIGCONT'));
  await fillLine();
  await guestVproxy.kill('TERM');
  t.is(await guestVproxy.waitForEnd(), 0);
  t.regex(await lineSettings(), COOKED);
  await fillLine();
  await laboratory().startGuestVproxy();
  const isOpen = async () => (await laboratory().guestVproxy.log()).includes('no answer on tty-open');
  await eventually(isOpen, { timeoutMs: TEST_MS, what: 'an opening without an answer' });
  const from = host.lines.length;
  host.kill('SIGCONT');
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

/** The settings of the guest's line. The shell stays: as the leader of its session, stty would hang up the line at its end. */
function lineSettings(): Promise<string> {
  return laboratory().guest.agent.output('stty -F /dev/ttyS1 -a; true');
}

/** Lets a process write to the guest's line until it accepts no more. It ends when the line is hung up. */
async function fillLine(): Promise<void> {
  // Not as the terminal of its session, or the line would be hung up when it ends.
  const open = `require('fs').openSync('/dev/ttyS1', ${constants.O_RDWR | constants.O_NOCTTY})`;
  const write = `const line = ${open}; for (;;) require('fs').writeSync(line, Buffer.alloc(4096))`;
  await laboratory().guest.agent.spawn(['node', '-e', write]);
  const sent: string[] = [];
  const isStuck = async () => {
    sent.push(await laboratory().guest.agent.output('grep -o "^1:.*tx:[0-9]*" /proc/tty/driver/serial'));
    return sent.length > 5 && new Set(sent.slice(-5)).size === 1;
  };
  await eventually(isStuck, { timeoutMs: TEST_MS, what: 'a line that takes nothing' });
}
