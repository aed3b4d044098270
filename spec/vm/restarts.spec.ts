/**
 * What happens to one side or to the whole guest in the middle of transfers. The other side stays, the session is
 * established again by itself, no stream ever has a wrong byte, and afterwards everything works again.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

import test from 'ava';

import { within } from '../helpers/time.js';
import { ENDED, ENDED_BY_RESTART } from '../helpers/vproxy-process.js';
import { checkEverything } from './rig/check-everything.js';
import { checkBrokenOff, endsOf, killGuestVproxy, killHostVproxy, startTransfers } from './rig/mid-transfer.js';
import { startDownload, startUpload, waitForProgress } from './rig/transfer.js';
import { useLaboratory } from './rig/use-laboratory.js';

const laboratory = useLaboratory(test);

const TEST_MS = 300_000;
const PROGRESS_BYTES = 4 << 20;
const FILE_BYTES = 64 << 20;
const KILLS = 4;
const PAUSE_MS = 40_000;
const SNAPSHOT = 'in-mid-transfer';

test.serial('the guest is reset: transfers are broken off, and the new boot finds its way back', async (t) => {
  t.timeout(TEST_MS);
  const { guest, host } = laboratory();
  const transfers = await startTransfers(laboratory(), PROGRESS_BYTES);
  const from = host.lines.length;
  await guest.reset();
  await laboratory().startGuest();
  await host.waitForLine(ENDED_BY_RESTART, { from, timeoutMs: 40_000 });
  await checkBrokenOff(t, transfers);
  await laboratory().waitForSession(from);
  await checkEverything(t, laboratory());
});

test.serial('the vproxy of the guest is killed and started again, four times', async (t) => {
  t.timeout(TEST_MS);
  // Several times, because only some of them fall within a frame.
  for (let round = 1; round <= KILLS; round += 1) await killGuestVproxy(t, laboratory(), PROGRESS_BYTES);
  await checkEverything(t, laboratory());
});

test.serial('the vproxy of the host is killed and started again', async (t) => {
  t.timeout(TEST_MS);
  await killHostVproxy(t, laboratory(), PROGRESS_BYTES);
  await checkEverything(t, laboratory());
});

test.serial(
  'the machine stands still for 40 s: the session and its streams go on as if nothing had been',
  async (t) => {
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
    await checkEverything(t, laboratory());
  },
);

test.serial('the machine is put back to an earlier state: no stream shows a byte that is not its own', async (t) => {
  t.timeout(TEST_MS);
  const { guest, host } = laboratory();
  const transfers = await startTransfers(laboratory(), PROGRESS_BYTES);
  await guest.saveSnapshot(SNAPSHOT);
  await Promise.all(transfers.map((transfer) => waitForProgress(transfer, PROGRESS_BYTES)));
  const from = host.lines.length;
  await guest.loadSnapshot(SNAPSHOT);
  await host.waitForLine(ENDED, { from, timeoutMs: 40_000 });
  await checkBrokenOff(t, transfers);
  await laboratory().waitForSession(from);
  await checkEverything(t, laboratory());
});

async function echo(socket: Socket, text: string): Promise<string> {
  socket.write(text);
  const [chunk] = (await within(20_000, 'an echo', once(socket, 'data'))) as [Buffer];
  return chunk.toString();
}
