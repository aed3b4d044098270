/**
 * One guest: all uses of the channel at once, the guest's vproxy while it has no peer, and what happens
 * to one side or to the whole guest in the middle of transfers. The other side stays, the session is established again by
 * itself, no stream ever has a wrong byte, and afterwards everything works again.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

import test from 'ava';

import { within } from '../helpers/time.js';
import { ENDED, ESTABLISHED } from '../helpers/vproxy-process.js';
import { eventuallyInGuest } from './rig/agent.js';
import { checkEssentials, checkEverything } from './rig/check-everything.js';
import { GUEST_PORTS } from './rig/guest-ports.js';
import { GUEST_VPROXY } from './rig/initramfs.js';
import {
  checkBrokenOff,
  ENDLESS_BYTES,
  endsOf,
  killGuestVproxy,
  killHostVproxy,
  resetGuest,
  startTransfers,
} from './rig/mid-transfer.js';
import { startDownload, startUpload, waitForProgress } from './rig/transfer.js';
import { useLaboratory } from './rig/use-guest.js';

const laboratory = useLaboratory(test);

const TEST_MS = 600_000;
const START_MS = 120_000;
const PROGRESS_BYTES = 1 << 20;
const FILE_BYTES = 16 << 20;
/** Of what is checked behind each event. */
const SMALL_BYTES = 1 << 20;
const MEASURED_MS = 5_000;
/** A process that looks again and again, each millisecond or ten, does it hundreds of times. */
const WAKE_UPS = 100;
/** Longer than any time of vproxy's that a silence could end: the longest is the 30 s of a frame that is incomplete (R-FLOW-9). */
const PAUSE_MS = 40_000;
const SNAPSHOT = 'in-mid-transfer';

test.serial('storage, ssh, files, forwards both ways and 200 streams work over one port', async (t) => {
  t.timeout(TEST_MS);
  await checkEverything(t, laboratory(), FILE_BYTES);
});

test.serial('SIGTERM ends the vproxy of the guest while nothing comes over the port', async (t) => {
  t.timeout(TEST_MS);
  const { guestVproxy, host } = laboratory();
  const from = host.lines.length;
  host.kill('SIGSTOP');
  t.teardown(() => host.kill('SIGCONT'));
  await guestVproxy.kill('TERM');
  t.is(await guestVproxy.waitForEnd(START_MS), 0);
  host.kill('SIGCONT');
  await host.waitForLine(ENDED, { from });
  await laboratory().startGuestVproxy();
  await laboratory().waitForSession(from);
});

test.serial(
  'a second vproxy on the port says once that it is taken, and has it when the first one is gone',
  async (t) => {
    t.timeout(TEST_MS);
    const { guest, guestVproxy, host } = laboratory();
    const from = host.lines.length;
    const second = await guest.agent.spawn(['node', GUEST_VPROXY, '-c', `virtserial-open:${guest.portPath}`]);
    const says = async (pattern: RegExp) => pattern.test(await second.log());
    await eventuallyInGuest(
      () => says(/another process has it open \(EBUSY\): process \d+ \(vproxy\) has it; trying again/),
      {
        timeoutMs: START_MS,
      },
    );
    t.false(host.lines.slice(from).some((line) => ENDED.test(line)));
    await guestVproxy.kill('KILL');
    await eventuallyInGuest(() => says(ESTABLISHED), { what: 'the session of the second one', timeoutMs: START_MS });
    t.is((await second.log()).split('(vproxy) has it').length, 2, await second.log());
    await second.kill('TERM');
    t.is(await second.waitForEnd(), 0);
    const again = host.lines.length;
    await laboratory().startGuestVproxy();
    await laboratory().waitForSession(again);
  },
);

test.serial(
  'with the host gone and writes waiting, the vproxy of the guest is idle, and SIGTERM ends it',
  async (t) => {
    t.timeout(TEST_MS);
    const { guest, guestVproxy, host } = laboratory();
    const download = startDownload(await laboratory().port('source'), ENDLESS_BYTES);
    await waitForProgress(download, PROGRESS_BYTES);
    host.kill('SIGKILL');
    t.is((await download.ended).wrongAt, null);
    await eventuallyInGuest(async () => ENDED.test(await guestVproxy.log()), {
      what: "the end of the guest's session",
    });

    const storageCall = await guest.agent.spawn(['/usr/sbin/storcli64', '/c0', 'show']);
    const connection = await guest.agent.spawn([
      'sh',
      '-c',
      `exec nc 127.0.0.1 ${GUEST_PORTS.hostEcho} < /bin/busybox`,
    ]);
    t.teardown(() => Promise.allSettled([storageCall.kill('KILL'), connection.kill('KILL')]));
    const before = await guestVproxy.wakeUps();
    await guest.agent.output(`sleep ${MEASURED_MS / 1000}`, { timeoutMs: MEASURED_MS * 4 });
    const wakeUps = (await guestVproxy.wakeUps()) - before;
    t.true(wakeUps < WAKE_UPS, `${wakeUps} wake-ups in ${MEASURED_MS} ms`);

    await guestVproxy.kill('TERM');
    t.is(await guestVproxy.waitForEnd(START_MS), 0);
    await laboratory().startGuestVproxy();
    laboratory().startHost();
    await laboratory().waitForSession(0);
  },
);

for (const [side, kill] of Object.entries({ guest: killGuestVproxy, host: killHostVproxy })) {
  test.serial(`the vproxy of the ${side} is killed and started again`, async (t) => {
    t.timeout(TEST_MS);
    await kill(t, laboratory(), PROGRESS_BYTES);
    await checkEssentials(t, laboratory(), SMALL_BYTES);
  });
}

test.serial('the machine stands still: the session and its streams go on as if nothing had been', async (t) => {
  t.timeout(TEST_MS);
  const { guest, host } = laboratory();
  const from = host.lines.length;
  const quiet = connect(await laboratory().port('echo'), '127.0.0.1');
  t.teardown(() => quiet.destroy());
  t.is(await echo(quiet, 'before'), 'before');
  const download = startDownload(await laboratory().port('source'), FILE_BYTES);
  const upload = startUpload(await laboratory().port('sink'), FILE_BYTES);
  await Promise.all([waitForProgress(download, 1 << 20), waitForProgress(upload, 1 << 20)]);

  await guest.pause();
  // The silence is what is tested: nothing can announce its end.
  await delay(PAUSE_MS);
  await guest.resume();

  t.is(await echo(quiet, 'after'), 'after');
  const whole = { bytes: FILE_BYTES, wrongAt: null, error: null };
  t.deepEqual(await endsOf([download, upload]), [whole, whole]);
  t.deepEqual(
    host.lines.slice(from).filter((line) => ENDED.test(line)),
    [],
  );
  await checkEssentials(t, laboratory(), SMALL_BYTES);
});

test.serial('the machine is put back to an earlier state: no stream shows a byte that is not its own', async (t) => {
  t.timeout(TEST_MS);
  const { guest, host } = laboratory();
  const transfers = await startTransfers(laboratory(), PROGRESS_BYTES);
  await guest.saveSnapshot(SNAPSHOT);
  await Promise.all(transfers.map((transfer) => waitForProgress(transfer, PROGRESS_BYTES)));
  const from = host.lines.length;
  await guest.loadSnapshot(SNAPSHOT);
  await host.waitForLine(ENDED, { from, timeoutMs: START_MS });
  await checkBrokenOff(t, transfers);
  await laboratory().waitForSession(from);
  await checkEssentials(t, laboratory(), SMALL_BYTES);
});

test.serial('the guest is reset: transfers are broken off, and the new boot finds its way back', async (t) => {
  t.timeout(TEST_MS);
  await resetGuest(t, laboratory(), PROGRESS_BYTES);
  await checkEssentials(t, laboratory(), SMALL_BYTES);
});

async function echo(socket: Socket, text: string): Promise<string> {
  socket.write(text);
  const [chunk] = (await within(20_000, 'an echo', once(socket, 'data'))) as [Buffer];
  return chunk.toString();
}
