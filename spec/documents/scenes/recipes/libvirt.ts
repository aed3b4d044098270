/**
 * docs/recipes.md, a guest and the host's libvirtd: the scene's own real libvirtd, with one domain. virsh runs on the
 * machine of the scene, too, with a vproxy that simulates the guest's, since the bare guest of the VM tests has no virsh.
 */
import assert from 'node:assert/strict';
import { QEMU_SETTINGS } from '../../../helpers/libvirt.js';
import type { Scene } from '../../runner/scene.js';
import { SAME_MACHINE, standInForPort } from './same-machine.js';

const DOMAIN = `<domain type='qemu'>
<name>vm2</name><memory unit='MiB'>64</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>
</domain>
`;

/** As root of the host, without vproxy. */
const AS_HOST = 'virsh -q -c qemu:///system';

export const libvirt: Scene = {
  needs: ['root', 'libvirt'],
  ...SAME_MACHINE,
  async prepare(stage) {
    await standInForPort(stage);
    // These folders belong to the machine's own libvirt.
    await stage.run('for folder in lib cache; do mkdir -p /var/$folder; mount -t tmpfs tmpfs /var/$folder; done');
    await stage.run('rm -rf /etc/libvirt && mkdir -p /etc/libvirt');
    stage.write('/etc/libvirt/qemu.conf', `${QEMU_SETTINGS.join('\n')}\n`);
    stage.write('/etc/libvirt/libvirtd.conf', 'auth_unix_rw = "none"\nauth_unix_ro = "none"\n');
    await stage.start('exec /usr/sbin/libvirtd', () => stage.succeeds(`${AS_HOST} uri`));
    stage.write('/tmp/vm2.xml', DOMAIN);
    await stage.run(`${AS_HOST} define /tmp/vm2.xml`);
  },
  async check(stage) {
    assert.match(await stage.run(`${AS_HOST} list --all`), /\bvm2 +shut off/, 'the domain is as it was');
  },
};
