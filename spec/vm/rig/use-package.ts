/** A guest in which vproxy is a package that is one file, and the tests of every such package. */
import type { TestFn } from 'ava';

import { packageVersion } from '../../../cli/package-info.js';
import { checkEssentials } from './check-everything.js';
import { GUEST_PACKAGE } from './initramfs.js';
import { useLaboratory } from './use-laboratory.js';

const TEST_MS = 300_000;
const FILE_BYTES = 16 << 20;

/** Tests the package whose path `make` returns, in a guest of its own. */
export function usePackage(test: TestFn, make: () => string): void {
  const laboratory = useLaboratory(test, {
    guest: () => ({ packageFile: make(), memoryMiB: 2048, bootMs: 180_000 }),
    guestProgram: [GUEST_PACKAGE],
  });

  test.serial('storage, ssh and files work', async (t) => {
    t.timeout(TEST_MS);
    await checkEssentials(t, laboratory(), FILE_BYTES);
  });

  test.serial('it says its version, and what it holds is known', async (t) => {
    t.timeout(TEST_MS);
    const { guest, guestVproxy } = laboratory();
    const version = await guest.agent.output(`${GUEST_PACKAGE} --version`, { timeoutMs: 60_000 });
    t.true(version.startsWith(`vproxy ${packageVersion()} `), version);
    const status = await guest.agent.output(`cat /proc/${guestVproxy.pid}/status`);
    const residentKb = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]);
    t.true(residentKb > 0);
    t.log(`${Math.round(residentKb / 1024)} MB resident`);
  });
}
