/**
 * docs/getting-started.md: the Debian of `examples/debian-guest`, which is made beforehand, as there is no network
 * here.
 */
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../helpers/files.js';
import { chooseAccelerator } from '../../vm/rig/accel.js';
import { findTools } from '../../vm/rig/tools.js';
import type { Scene } from '../runner/scene.js';

/** Where the guest has to be made. */
export const DEBIAN_GUEST = join(PROJECT_ROOT, 'dist/debian-guest');

/** A clone with the guest in it, as far as the document needs one. */
export const debianGuest: Scene = {
  async prepare(stage) {
    await stage.run(`ln -s ${PROJECT_ROOT}/examples ${PROJECT_ROOT}/README.md . && ln -s ${DEBIAN_GUEST} vm1`);
    // A machine may have a KVM that does not work; a user leaves it out then.
    if ((await chooseAccelerator(findTools())) === 'tcg') {
      await stage.run('if [ -e /dev/kvm ]; then mount --bind /dev/null /dev/kvm; fi');
    }
  },
  isReady: (output) => /login: $/.test(output),
};
