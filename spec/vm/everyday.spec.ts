/** A guest that nothing happens to: all uses of the channel at once, and the guest's vproxy while it has no peer. */
import test from 'ava';

import { eventually } from '../helpers/time.js';
import { ENDED, ESTABLISHED } from '../helpers/vproxy-process.js';
import { checkEverything } from './rig/check-everything.js';
import { GUEST_PORTS } from './rig/guest-ports.js';
import { GUEST_VPROXY } from './rig/initramfs.js';
import { startDownload, waitForProgress } from './rig/transfer.js';
import { useLaboratory } from './rig/use-laboratory.js';

// As npm installs it: file by file.
const laboratory = useLaboratory(test, { guestProgram: ['node', GUEST_VPROXY] });

const MEASURED_MS = 10_000;
/** Of an emulated processor, which needs some 7 ms for a look at the port; for when what a request needs is loaded. */
const CPU_SHARE = 0.1;
/** One that looks again and again, each millisecond or ten, does it thousands of times. */
const WAKE_UPS = 150;
const SIGTERM_MS = 1_000;
const START_MS = 60_000;
const ENDLESS_BYTES = 2 ** 40;

test.serial('storage, ssh, files, forwards both ways and 200 streams work over one port', async (t) => {
  t.timeout(240_000);
  await checkEverything(t, laboratory());
});

test.serial('SIGTERM ends the vproxy of the guest within a second while the port is idle', async (t) => {
  t.timeout(60_000);
  const from = laboratory().host.lines.length;
  await endGuestVproxy(t);
  await laboratory().host.waitForLine(ENDED, { from });
  await laboratory().startGuestVproxy();
  await laboratory().waitForSession(from);
});

test.serial(
  'a second vproxy on the port says once that it is taken, and has it when the first one is gone',
  async (t) => {
    t.timeout(180_000);
    const { guest, guestVproxy, host } = laboratory();
    const from = host.lines.length;
    const second = await guest.agent.spawn(['node', GUEST_VPROXY, '-c', `virtserial-open:${guest.portPath}`]);
    const says = async (pattern: RegExp) => pattern.test(await second.log());
    await eventually(() => says(/another process has it open \(EBUSY\): process \d+ \(vproxy\) has it; trying again/), {
      timeoutMs: START_MS,
    });
    t.false(host.lines.slice(from).some((line) => ENDED.test(line)));
    await guestVproxy.kill('KILL');
    await eventually(() => says(ESTABLISHED), { what: 'the session of the second one', timeoutMs: START_MS });
    t.is((await second.log()).split('EBUSY').length, 2, await second.log());
    await second.kill('TERM');
    t.is(await second.waitForEnd(), 0);
    const again = host.lines.length;
    await laboratory().startGuestVproxy();
    await laboratory().waitForSession(again);
  },
);

test.serial('with the host gone and writes waiting, the vproxy of the guest hardly uses the processor', async (t) => {
  t.timeout(120_000);
  const { guest, guestVproxy, host } = laboratory();
  const download = startDownload(await laboratory().port('source'), ENDLESS_BYTES);
  await waitForProgress(download, 1 << 20);
  host.kill('SIGKILL');
  t.is((await download.ended).wrongAt, null);
  await eventually(async () => ENDED.test(await guestVproxy.log()), { what: "the end of the guest's session" });

  const storageCall = await guest.agent.spawn(['/usr/sbin/storcli64', '/c0', 'show']);
  const connection = await guest.agent.spawn(['sh', '-c', `exec nc 127.0.0.1 ${GUEST_PORTS.hostEcho} < /bin/busybox`]);
  t.teardown(() => Promise.allSettled([storageCall.kill('KILL'), connection.kill('KILL')]));

  const measure = async (what: string) => {
    const before = await guestVproxy.use();
    await guest.agent.output(`sleep ${MEASURED_MS / 1000}`, { timeoutMs: MEASURED_MS * 2 });
    const after = await guestVproxy.use();
    const [timeMs, wakeUps] = [after.timeMs - before.timeMs, after.wakeUps - before.wakeUps];
    t.log(`${what}: ${timeMs} ms of processor time and ${wakeUps} wake-ups in ${MEASURED_MS} ms`);
    t.true(wakeUps < WAKE_UPS, `${what}: ${wakeUps} wake-ups`);
    return timeMs;
  };
  await measure('at first');
  const timeMs = await measure('later');
  t.true(timeMs < MEASURED_MS * CPU_SHARE, `${timeMs} ms`);
});

test.serial('SIGTERM ends the vproxy of the guest within a second while the host is gone', async (t) => {
  t.timeout(60_000);
  await endGuestVproxy(t);
  await laboratory().startGuestVproxy();
  laboratory().startHost();
  await laboratory().waitForSession(0);
});

/** Sends SIGTERM, and fails `t` where the process ends late or was killed by the signal. */
async function endGuestVproxy(t: { is(a: unknown, b: unknown): unknown; true(a: boolean, message: string): unknown }) {
  const { guestVproxy } = laboratory();
  const began = performance.now();
  await guestVproxy.kill('TERM');
  const status = await guestVproxy.waitForEnd();
  const tookMs = Math.round(performance.now() - began);
  t.is(status, 0);
  t.true(tookMs < SIGTERM_MS, `${tookMs} ms`);
}
