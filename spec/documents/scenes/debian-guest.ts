/**
 * docs/getting-started.md: the Debian of `examples/debian-guest`, made beforehand, since scenes have no network.
 */
import { join } from 'node:path';
import { chooseAccelerator } from '../../../tools/vm/accel.js';
import { PROJECT_ROOT } from '../../helpers/files.js';
import { findTools } from '../../vm/rig/tools.js';
import type { Scene } from '../runner/scene.js';

/** The folder to make the guest in. */
export const DEBIAN_GUEST = join(PROJECT_ROOT, 'dist/debian-guest');

/** A clone with the guest in it, as much as the document needs. */
export const debianGuest: Scene = {
  async prepare(stage) {
    await stage.run(`ln -s ${PROJECT_ROOT}/examples ${PROJECT_ROOT}/README.md . && ln -s ${DEBIAN_GUEST} vm1`);
    // KVM may not work on this machine; a user would leave it out.
    if ((await chooseAccelerator(findTools())) === 'tcg') {
      await stage.run('if [ -e /dev/kvm ]; then mount --bind /dev/null /dev/kvm; fi');
    }
  },
  isReady: (output) => /login: $/.test(output),
};
