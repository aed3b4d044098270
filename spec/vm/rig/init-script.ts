/** The guest's `/init`: mounts, credentials, modules, the links to the ports, and then the agent forever. */

/** The modules that guests need, in the order in which they are inserted. */
export const MODULES = [
  'virtio_ring',
  'virtio',
  'virtio_pci_legacy_dev',
  'virtio_pci_modern_dev',
  'virtio_pci',
  'virtio_console',
  // Sockets of vsock that lead back to the guest.
  ...['vsock', 'vmw_vsock_virtio_transport_common', 'vsock_loopback'],
  // A folder of the host.
  ...['netfs', 'fscache', '9pnet', '9pnet_virtio', '9p'],
  // A file system on a block device.
  ...['loop', 'crc16', 'crc32c_generic', 'mbcache', 'jbd2', 'ext4'],
] as const;

/**
 * The name of the port of the rig's agent, which is on a separate virtio-serial device, and not used by vproxy.
 */
export const AGENT_PORT = 'rig.agent';

/** The private folder in the guest with the credentials from its SMBIOS. */
export const GUEST_CREDENTIALS = '/run/credentials/vproxy.service';

/** Reads them as systemd does at boot; the strings of such an entry follow its header of five bytes. */
const UNPACK_CREDENTIALS = `\
mkdir -p -m 0700 ${GUEST_CREDENTIALS}
for entry in /sys/firmware/dmi/entries/11-*/raw; do
  [ -e "$entry" ] || continue
  tail -c +6 "$entry" | tr '\\0' '\\n' | while IFS= read -r line; do
    case $line in io.systemd.credential.binary:*=*) ;; *) continue ;; esac
    credential=\${line#*:}
    (umask 0177; echo "\${credential#*=}" | base64 -d > ${GUEST_CREDENTIALS}/\${credential%%=*})
  done
done`;

/** Makes the links to the existing ports, as udev does. */
export const LINK_PORTS = `\
for name in /sys/class/virtio-ports/*/name; do
  [ -e "$name" ] || continue
  device=\${name%/name}
  ln -sf /dev/\${device##*/} /dev/virtio-ports/$(cat $name)
done`;

/** The script, for busybox's shell. It waits for these ports, runs `services`, and keeps the command `agent` running. */
export function formatInitScript(ports: readonly string[], services: readonly string[], agent: string): string {
  return `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/virtio-ports
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mount -t tmpfs -o size=60% tmpfs /tmp
hostname guest
${UNPACK_CREDENTIALS}
ip link set lo up
for module in ${MODULES.join(' ')}; do
  if [ -e /modules/$module.ko ]; then insmod /modules/$module.ko; fi
done
for port in ${ports.join(' ')}; do
  until [ -e /dev/virtio-ports/$port ]; do
    ${LINK_PORTS}
    usleep 20000
  done
done
${services.join('\n')}
while true; do
  ${agent}
  echo "the agent ended with status $?"
  sleep 1
done
`;
}
