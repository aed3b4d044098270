/** docs/libvirt.md: a host with libvirt, and a domain `vm1` without a port for vproxy. */
import { DAEMON_SETTINGS, formatDomain, QEMU_SETTINGS } from '../../helpers/libvirt.js';
import type { Scene } from '../runner/scene.js';

/** The element that libvirt needs for plugging a port in without a restart. */
const CONTROLLER = "    <controller type='virtio-serial'/>\n";

export const libvirt: Scene = {
  needs: ['root', 'libvirt'],
  async prepare(stage) {
    for (const folder of ['lib', 'cache']) await stage.run(`mount -t tmpfs -o mode=755 tmpfs /var/${folder}/libvirt`);
    await stage.run('rm -rf /etc/libvirt; mkdir -p /var/log/libvirt');
    stage.write('/etc/libvirt/qemu.conf', `${QEMU_SETTINGS.join('\n')}\n`);
    stage.write('/etc/libvirt/libvirtd.conf', `${DAEMON_SETTINGS.join('\n')}\n`);
    await stage.start('exec libvirtd', () => stage.succeeds('virsh uri'));
    stage.write('/tmp/vm1.xml', formatDomain({ devices: CONTROLLER }));
    await stage.run('virsh define /tmp/vm1.xml');
  },
};
