/** The recipe of the simengine project: QEMU is a TCP client that connects its port to the host, and reconnects. */
import test from 'ava';

import { CHANNEL_LISTENING, ENDED } from '../helpers/vproxy-process.js';
import { checkEssentials } from './rig/check-everything.js';
import { HostSide } from './rig/host-side.js';
import { checkBrokenOff, startTransfers } from './rig/mid-transfer.js';
import { useLaboratory } from './rig/use-laboratory.js';

let hostSide: HostSide | undefined;

const laboratory = useLaboratory(test, {
  guest: async () => {
    hostSide = await HostSide.start('tcp-listen:127.0.0.1:0');
    const [, port] = await hostSide.vproxy.waitForLine(CHANNEL_LISTENING);
    // The recipe has reconnect=10, and port 50000.
    const portChardev = `socket,host=localhost,port=${port},reconnect=1`;
    return { portName: 'systems.cdot.simengine.storage.net', portChardev };
  },
  host: () => {
    if (hostSide === undefined) throw new Error('the host side was not started');
    return hostSide;
  },
});

const TEST_MS = 240_000;
const FILE_BYTES = 8 << 20;
const PROGRESS_BYTES = 1 << 20;

test.serial('storage, ssh and files work where QEMU is the TCP client', async (t) => {
  t.timeout(TEST_MS);
  await checkEssentials(t, laboratory(), FILE_BYTES);
});

test.serial('QEMU is restarted in mid-transfer: the same vproxy on the host gets the session back', async (t) => {
  t.timeout(TEST_MS);
  const { guest, host } = laboratory();
  const transfers = await startTransfers(laboratory(), PROGRESS_BYTES);
  const from = host.lines.length;
  await guest.restart();
  await laboratory().startGuest();
  await host.waitForLine(ENDED, { from });
  await checkBrokenOff(t, transfers);
  await laboratory().waitForSession(from);
  await checkEssentials(t, laboratory(), FILE_BYTES);
});
