/** The guest's `/init`: mounts, credentials, modules, the links to the ports, and then the agent for ever. */

/** The modules that a virtio-serial port needs, in the order in which they are inserted. */
export const MODULES = [
  'virtio_ring',
  'virtio',
  'virtio_pci_legacy_dev',
  'virtio_pci_modern_dev',
  'virtio_pci',
  'virtio_console',
] as const;

/**
 * The name of the port of the rig's own agent, which is on a virtio-serial device of its own, and not a port of
 * vproxy's.
 */
export const AGENT_PORT = 'rig.agent';

/** Where the guest has the credentials of its SMBIOS: a folder and files for their owner alone. */
export const GUEST_CREDENTIALS = '/run/credentials/vproxy.service';

/** Does what systemd does at a boot; the strings of such an entry follow its header of five bytes. */
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

/** The options of `formatInitScript`. */
export interface InitScriptOptions {
  /** The ports to wait for. */
  readonly ports: readonly string[];
  /** The modules to insert, in this order, where the archive has them. */
  readonly modules: readonly string[];
  /** The command that is kept running. */
  readonly agent: string;
}

/** The script, for busybox's shell. */
export function formatInitScript({ ports, modules, agent }: InitScriptOptions): string {
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
for module in ${modules.join(' ')}; do
  if [ -e /modules/$module.ko ]; then insmod /modules/$module.ko; fi
done
for port in ${ports.join(' ')}; do
  until [ -e /dev/virtio-ports/$port ]; do
    for name in /sys/class/virtio-ports/*/name; do
      [ -e "$name" ] || continue
      device=\${name%/name}
      ln -sf /dev/\${device##*/} /dev/virtio-ports/$(cat $name)
    done
    usleep 20000
  done
done
while true; do
  ${agent}
  echo "the agent ended with status $?"
  sleep 1
done
`;
}
