/** QEMU's pipe chardev as the host's end of the port: two FIFOs, which do not show that the other end was closed. */
import { join } from 'node:path';

import test from 'ava';

import { VproxyProcess } from '../helpers/vproxy-process.js';
import { checkEssentials } from './rig/check-everything.js';
import { HostSide } from './rig/host-side.js';
import { killGuestVproxy, killHostVproxy } from './rig/mid-transfer.js';
import { useLaboratory } from './rig/use-laboratory.js';

const pipeIn = (folder: string) => join(folder, 'pipe');

const laboratory = useLaboratory(test, {
  guest: async (folder) => {
    const created = new VproxyProcess(['pipe-create', pipeIn(folder)]);
    const { code } = await created.exited;
    if (code !== 0) throw new Error(`vproxy pipe-create: status ${code}\n${created.lines.join('\n')}`);
    return { portChardev: `pipe,path=${pipeIn(folder)}` };
  },
  host: ({ folder }) => HostSide.start(`pipe-open:${pipeIn(folder)}`),
});

const TEST_MS = 240_000;
const FILE_BYTES = 8 << 20;
const PROGRESS_BYTES = 1 << 20;

test.serial('storage, ssh and files work over a pipe chardev', async (t) => {
  t.timeout(TEST_MS);
  await checkEssentials(t, laboratory(), FILE_BYTES);
});

test.serial('the vproxy of the guest is killed in mid-transfer: all works again over the pipe', async (t) => {
  t.timeout(TEST_MS);
  await killGuestVproxy(t, laboratory(), PROGRESS_BYTES);
  await checkEssentials(t, laboratory(), FILE_BYTES);
});

test.serial('the vproxy of the host is killed in mid-transfer: all works again over the pipe', async (t) => {
  t.timeout(TEST_MS);
  await killHostVproxy(t, laboratory(), PROGRESS_BYTES);
  await checkEssentials(t, laboratory(), FILE_BYTES);
});
