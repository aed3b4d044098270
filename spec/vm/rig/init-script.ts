/** The guest's `/init`: mounts, credentials, modules, the links to the ports, and then the agent forever. */
import { BOOT_SCRIPT } from '../../../tools/vm/archive.js';
import { PORT_MODULES } from '../../../tools/vm/kernel.js';

/** The modules that guests need, besides those that these need. */
export const MODULES: readonly string[] = [
  ...PORT_MODULES,
  // Sockets of vsock that lead back to the guest.
  'vsock_loopback',
  // A folder of the host.
  ...['9pnet_virtio', '9p'],
  // A file system on a block device.
  ...['loop', 'crc32c_generic', 'ext4'],
];

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
  return `${BOOT_SCRIPT}mkdir -p /dev/virtio-ports
${UNPACK_CREDENTIALS}
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
