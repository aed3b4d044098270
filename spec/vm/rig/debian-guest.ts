/** A guest that is a Debian with systemd, and has vproxy as its command, without the Debian package of it. */
import { join } from 'node:path';
import { type Guest, SHARED_FOLDER } from './guest.js';
import { bundleTo } from './make-package.js';
import { RIG_FOLDER } from './systemd-initramfs.js';

const BUNDLE = 'vproxy.cjs';

/** Makes `vproxy` a command of it, and gives it files of the host, in `SHARED_FOLDER`. */
export async function prepareDebianGuest(guest: Guest, files: readonly string[]): Promise<void> {
  const bundle = join(guest.folder, BUNDLE);
  bundleTo(bundle);
  await guest.addFiles(bundle, ...files);
  const script = `#!/bin/sh\\nexec ${RIG_FOLDER}/node ${SHARED_FOLDER}/${BUNDLE} "$@"\\n`;
  await guest.agent.output(`printf '${script}' > /usr/bin/vproxy; chmod 755 /usr/bin/vproxy`);
}
