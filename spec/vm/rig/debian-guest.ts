/** A guest that is a Debian with systemd, and has vproxy as its command, without the Debian package of it. */
import { join } from 'node:path';
import type { Guest } from './guest.js';
import type { GuestPlan } from './guest-options.js';
import { bundleTo } from './make-package.js';
import { buildSystemdInitramfs, RIG_FOLDER } from './systemd-initramfs.js';

const BUNDLE = 'vproxy.cjs';

/** Under emulation, on a busy machine. */
const BOOT_MS = 180_000;

/** The plan of such a guest; `files` of the host are in `RIG_FOLDER` there, under their names. */
export const debianGuestPlan =
  (files: readonly string[] = []): GuestPlan =>
  (folder) => {
    const bundle = join(folder, BUNDLE);
    bundleTo(bundle);
    return {
      ...{ memoryMiB: 2048, bootMs: BOOT_MS },
      buildInitramfs: (path, tools) => buildSystemdInitramfs(path, tools, [bundle, ...files]),
    };
  };

/** Makes `vproxy` a command of it, and waits until systemd has started everything. */
export async function prepareDebianGuest({ agent }: Guest): Promise<void> {
  const script = `#!/bin/sh\\nexec ${RIG_FOLDER}/node ${RIG_FOLDER}/${BUNDLE} "$@"\\n`;
  await agent.output(`printf '${script}' > /usr/bin/vproxy; chmod 755 /usr/bin/vproxy`);
  await agent.output('systemctl is-system-running --wait', { timeoutMs: BOOT_MS });
}
