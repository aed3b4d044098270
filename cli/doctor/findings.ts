/**
 * Everything that the doctor can find, and what to do about it. docs/doctor.md says what each row means; a spec compares both, and
 * another one provokes each.
 */

/** How bad a finding is: `fail` is what has to be mended, `warn` what most likely has to be, `note` what is good to know. */
export type Level = 'ok' | 'note' | 'warn' | 'fail';

interface FindingRow {
  readonly level: Level;
  /** What to do; null where nothing has to be done. A check that knows better says something else. */
  readonly remedy: string | null;
}

const ok: FindingRow = { level: 'ok', remedy: null };
const note = (remedy: string | null = null): FindingRow => ({ level: 'note', remedy });
const warn = (remedy: string): FindingRow => ({ level: 'warn', remedy });
const fail = (remedy: string): FindingRow => ({ level: 'fail', remedy });

/** By id. */
export const FINDINGS = {
  // The machine, the arguments, and the logs
  'machine-facts': ok,
  'node-old': fail('install Node 20.19 or newer'),
  'not-root': note('run it as root to see who has what'),
  'proc-missing': warn('mount -t proc proc /proc'),
  'files-low': warn('ulimit -n, or LimitNOFILE= of the unit'),
  'koffi-missing': warn('npm install koffi'),
  'buffer-bounded': note(
    'sysctl -w net.core.wmem_max=524288, which a file in /etc/sysctl.d keeps; or run vproxy with CAP_NET_ADMIN',
  ),
  'buffer-no-koffi': note('npm install koffi'),
  'qemu-found': ok,
  'config-invalid': fail('correct the file; vproxy check FILE'),
  'channel-refused': fail('correct the options'),
  'not-checked': note(),
  'selinux-denied': warn('ausearch -m avc -ts recent; see /usr/share/doc/vproxy/services.md'),
  'apparmor-denied': warn('add the path to the profile; see /usr/share/doc/vproxy/services.md'),
  'denials-none': ok,
  'denials-unseen': note('run it as root'),
  'check-slow': warn('see what does not answer: a network file system, a name server; or give it more time: --timeout'),
  'check-failed': warn('report it, with the message'),

  // Virtio-serial ports
  'ports-found': ok,
  'ports-none': note(),
  'port-module': fail('modprobe virtio_console'),
  'port-missing': fail('give the VM a virtserialport with that name, or correct the name'),
  'port-misspelt': fail('correct the name'),
  'port-no-link': warn('udevadm trigger --subsystem-match=virtio-ports, or name the port without a path'),
  'port-no-device': fail('mount devtmpfs at /dev, or give the container the device'),
  'port-not-virtio': fail('name the device of a virtserialport'),
  'port-console': fail('give the VM a virtserialport; number 0 of a device is for a console'),
  'port-denied': fail('run as root, or have udev give the port to a group: packaging/udev/60-vproxy.rules'),
  'port-busy': fail('end that process'),
  'port-no-host': warn('start vproxy on the host, with the channel of this port'),
  'port-host': ok,
  'port-failed': fail('look at the kernel log (dmesg)'),

  // Sockets to connect to
  'socket-missing': fail('start the VM or the program that makes the socket, or correct the path'),
  'socket-not': fail('name the path of the socket'),
  'socket-denied': fail(
    'run as the owner of the socket, or as root, or have the program that makes the socket give it to a group of this user',
  ),
  'socket-stale': fail('start the VM or the program that makes the socket'),
  'socket-listens': ok,
  'socket-answered': ok,
  'socket-type': fail('name a stream socket, such as that of a chardev'),
  'socket-taken': fail('end the program that is connected'),
  'socket-queue': warn('end the programs that wait'),
  'process-stopped': warn('let it go on: kill -CONT'),
  'group-members': ok,
  'group-empty': warn('start a VM, or correct the pattern'),
  'tcp-answers': ok,
  'tcp-refused': fail('start the program that listens there, or correct the address'),
  'tcp-silent': fail('look at firewalls, and at whether the machine is up'),
  'tcp-unreachable': fail('look at the network of this machine'),
  'tcp-unknown-name': fail('correct the name, or write the address'),
  'tcp-taken': warn('end the program that is connected'),

  // Addresses to listen on
  'listen-free': ok,
  'listen-stale': note(),
  'listen-taken': fail('end that process, or choose another address'),
  'listen-file': fail('remove the file, or choose another path'),
  'listen-address': fail('choose an address of this machine, or 127.0.0.1'),
  'listen-low-port': fail('choose a higher port, or give the unit AmbientCapabilities=CAP_NET_BIND_SERVICE'),
  'held-by-vproxy': ok,

  // Serial lines, pipes, AF_VSOCK
  'line-missing': fail('give the VM a serial port, or correct the path'),
  'line-not': fail('name the device of a serial line, such as /dev/ttyS1'),
  'line-denied': fail('run as root, or join the group of the device (often dialout)'),
  'line-console': fail('use another line, or take console= of this one from the kernel’s command line'),
  'line-getty': fail('systemctl disable --now serial-getty@ttyS1'),
  'line-taken': fail('end that process'),
  'line-no-stty': fail('install coreutils or busybox'),
  'line-free': ok,
  'fifo-missing': fail('vproxy pipe-create PATH'),
  'fifo-suffix': fail('name the path without it'),
  'fifo-not': fail('remove it, and make the FIFOs with vproxy pipe-create'),
  'fifo-denied': fail('vproxy pipe-create --owner and --mode, or run as its owner'),
  'fifo-alone': warn('start the VM with -chardev pipe and this path'),
  'fifo-taken': fail('end that process'),
  'fifo-qemu': ok,
  'vsock-missing': fail(
    'in a guest modprobe vmw_vsock_virtio_transport, on a host vhost_vsock; and give the VM a vhost-vsock device',
  ),
  'vsock-no-koffi': fail('npm install koffi, or use exec: with socat'),
  'vsock-cid': ok,
  'vsock-own': note('modprobe vsock_loopback; the host is CID 2'),

  // Domains of libvirt
  'domain-port': ok,
  'domain-missing': fail('virsh list --all; add uri=qemu:///system where virsh asks another one by itself'),
  'domain-off': fail('virsh start DOMAIN'),
  'domain-no-port': fail(
    'vproxy libvirt-xml prints a channel for virsh edit; or name the port: libvirt:DOMAIN:PORTNAME',
  ),
  'domain-port-unusable': fail('do what the line says, or change the channel of the domain'),
  'virsh-missing': fail('install libvirt-clients'),
  'libvirt-silent': fail('systemctl status libvirtd virtqemud'),
  'libvirt-denied': fail('join the group libvirt, or run as root'),

  // Files, folders and programs
  'folder-missing': fail('correct the path, or make the folder'),
  'path-denied': fail('let this user search the folder (chmod +x), or run as its owner'),
  'path-remote': note('have sockets, FIFOs and keys on a file system of this machine'),
  'folder-denied': fail('choose another folder, change its owner or mode, or run as its owner'),
  'file-denied': fail('change the owner or the mode of the file, or run as its owner'),
  'file-not': fail('name another path'),
  'file-writable': ok,
  'command-missing': fail('install it, or correct the command'),
  'command-found': ok,

  // Egresses, and proxies that programs are told of
  'egress-open': ok,
  'egress-closed': warn('say what may be reached, such as [egress.internet] allow = ["deb.debian.org:80,443"]'),
  'proxy-unserved': warn(
    'give vproxy a forward that listens there, such as -o internet:127.0.0.1:3128, or take the setting away',
  ),
  'proxy-other': note(),

  // Key files
  'key-good': ok,
  'key-missing': fail('vproxy genkey FILE, and a copy for the other side'),
  'key-denied': fail('give the file to the user that vproxy runs as'),
  'key-not-file': fail('name the file of a key'),
  'key-owner': fail('chown it to the user that vproxy runs as'),
  'key-open': fail('chmod 600, and make a new key if others may have read this one'),
  'key-invalid': fail('vproxy genkey FILE makes one'),
  'key-differs': warn('SIGHUP lets vproxy read its key files again; both sides need the same key'),

  // Running vproxys and their peers
  'vproxy-runs': ok,
  'vproxy-none': note(),
  'vproxy-hidden': note('set XDG_RUNTIME_DIR, or give --socket PATH'),
  'control-stale': warn('rm it, or start the vproxy that is called so'),
  'control-silent': fail('look at that process; kill -ABRT leaves a core'),
  'control-denied': note('run as that user, or as root'),
  'version-here': note('restart it after an upgrade'),
  'name-twice': warn('give each its own --name'),
  'channel-contested': fail('end all of them but one'),
  'session-up': ok,
  'session-suspended': warn('see the other findings about this channel'),
  'session-waiting': warn('see the other findings about this channel'),
  'session-unanswered': warn('start vproxy at the other end; see who else could have the channel there'),
  'session-auth': fail('give both sides the same key with --key FILE'),
  'session-failed': fail('see the other findings about this channel'),
  'session-unsteady': warn('look at vproxy events of both sides'),
  'session-ended': note(),
  'peer-silent': warn('look whether the VM is paused'),
  'resume-one-sided': note('give both sides resume=60s behind the channel'),
  'peer-version': note('upgrade the older side when convenient'),
  'peer-clock': warn('let both machines keep their clocks (chrony, systemd-timesyncd)'),
  'service-missing': warn('give the peer a -i for it'),
} as const satisfies Readonly<Record<string, FindingRow>>;

export type FindingId = keyof typeof FINDINGS;

/** What a check has found. */
export interface Finding extends FindingRow {
  readonly id: FindingId;
  /** One line for people, in which everything foreign is escaped. */
  readonly message: string;
}

/** A finding of that row; `remedy` is for a check that knows better. */
export const finding = (id: FindingId, message: string, remedy: string | null = FINDINGS[id].remedy): Finding => ({
  level: FINDINGS[id].level,
  id,
  message,
  remedy,
});
