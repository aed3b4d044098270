/**
 * Every finding of the doctor and its remedy. docs/doctor.md explains each row; one spec compares the two, and another provokes
 * each finding.
 */
import { describeRefused } from '../ui/machine-history.js';

/** Severity of a finding: `fail` must be fixed, `warn` most likely must be, `note` is information. */
export type Level = 'ok' | 'note' | 'warn' | 'fail';

interface FindingRow {
  readonly level: Level;
  /** What to do, or null. A check may override it with something more specific. */
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
  'not-root': note('run as root to see the open files of all processes'),
  'proc-missing': warn('mount -t proc proc /proc'),
  'files-low': warn('ulimit -n, or LimitNOFILE= of the unit'),
  'koffi-missing': warn('npm install koffi'),
  'buffer-bounded': note(
    'sysctl -w net.core.wmem_max=524288 (and persist it in /etc/sysctl.d), or run vproxy with CAP_NET_ADMIN',
  ),
  'buffer-no-koffi': note('npm install koffi'),
  'qemu-found': ok,
  'config-invalid': fail('correct the file or its path; check it with vproxy check FILE'),
  'channel-refused': fail('correct the options'),
  'channel-unused': note('start vproxy with this channel, and run vproxy doctor again'),
  'not-checked': note(),
  'selinux-denied': warn('ausearch -m avc -ts recent; see /usr/share/doc/vproxy/services.md'),
  'apparmor-denied': warn('add the path to the profile; see /usr/share/doc/vproxy/services.md'),
  'denials-none': ok,
  'denials-unseen': note('run as root'),
  'check-slow': warn(
    'find what does not answer (a network file system, a name server); if the machine is overloaded, raise --timeout',
  ),
  'check-failed': warn('report this message as a bug'),

  // Virtio-serial ports
  'ports-found': ok,
  'ports-none': note(),
  'port-module': fail('modprobe virtio_console'),
  'port-missing': fail('give the VM a virtserialport with that name, or correct the name'),
  'port-misspelt': fail('correct the name'),
  'port-no-link': warn(
    'udevadm trigger --subsystem-match=virtio-ports, or give the name of the port instead of a path',
  ),
  'port-no-device': fail('mount devtmpfs at /dev, or give the container the device'),
  'port-not-virtio': fail('use the device of a virtserialport'),
  'port-console': fail('give the VM a virtserialport; port 0 of a device is reserved for a console'),
  'port-denied': fail('run as root, or have udev give the port to a group: packaging/udev/60-vproxy.rules'),
  'port-busy': fail('stop that process'),
  'port-no-host': warn('start vproxy on the host with the channel of this port'),
  'port-host': ok,
  'port-failed': fail('check the kernel log (dmesg)'),

  // Sockets to connect to
  'socket-missing': fail('start the VM or the program that creates the socket, or correct the path'),
  'socket-not': fail('use the path of the socket'),
  'socket-denied': fail(
    'run as the owner of the socket or as root, or have the program that creates it give it to a group of this user',
  ),
  'socket-stale': fail('start the VM or the program that creates the socket'),
  'socket-listens': ok,
  'socket-answered': ok,
  'not-vproxy': fail('connect to the port or the socket of vproxy, not to a monitor, a console or another server'),
  'socket-type': fail("use a stream socket, such as a chardev's"),
  'socket-taken': fail('stop the program that is connected'),
  'socket-queue': warn('stop the programs that are waiting'),
  'process-stopped': warn('resume it: kill -CONT'),
  'group-members': ok,
  'group-empty': warn('start a VM, or correct the pattern'),
  'tcp-answers': ok,
  'tcp-refused': fail('start the program that listens there, or correct the address'),
  'ssh-socket': note('-i ssh:/run/ssh-unix-local/socket'),
  'tcp-silent': fail('check firewalls, and whether the machine is up'),
  'tcp-unreachable': fail('check the network configuration of this machine'),
  'tcp-unknown-name': fail('correct the name, or use the address'),
  'tcp-taken': warn('stop the program that is connected'),

  // Addresses to listen on
  'listen-free': ok,
  'listen-stale': note(),
  'listen-taken': fail('stop that process, or choose another address'),
  'listen-file': fail('remove the file, or choose another path'),
  'listen-address': fail('choose an address of this machine, or 127.0.0.1'),
  'listen-low-port': fail('choose a higher port, or give the unit AmbientCapabilities=CAP_NET_BIND_SERVICE'),
  'held-by-vproxy': ok,

  // Serial lines, pipes, AF_VSOCK
  'line-missing': fail('give the VM a serial port, or correct the path'),
  'line-not': fail('use the device of a serial line, such as /dev/ttyS1'),
  'line-denied': fail('run as root, or join the group of the device (often dialout)'),
  'line-console': fail('use another line, or remove its console= from the kernel command line'),
  'line-getty': fail('systemctl mask --now serial-getty@ttyS1'),
  'line-taken': fail('stop that process'),
  'line-no-stty': fail('install coreutils or busybox'),
  'line-free': ok,
  'fifo-missing': fail('vproxy pipe-create PATH'),
  'fifo-suffix': fail('omit the suffix'),
  'fifo-not': fail('remove it, and create the FIFOs with vproxy pipe-create'),
  'fifo-denied': fail('vproxy pipe-create with --owner and --mode, or run as its owner'),
  'fifo-alone': warn('start the VM with -chardev pipe and this path'),
  'fifo-taken': fail('stop that process'),
  'fifo-qemu': ok,
  'vsock-missing': fail(
    'modprobe vmw_vsock_virtio_transport in a guest, vhost_vsock on a host; give the VM a vhost-vsock device',
  ),
  'vsock-no-koffi': fail('npm install koffi, or use exec: with socat'),
  'vsock-cid': ok,
  'vsock-own': note('modprobe vsock_loopback; the host is CID 2'),

  // Domains of libvirt
  'domain-port': ok,
  'domain-missing': fail('virsh list --all; add uri=qemu:///system if virsh connects elsewhere by default'),
  'domain-off': fail('virsh start DOMAIN'),
  'domain-no-port': fail(
    'add the channel that vproxy libvirt-xml prints (virsh edit), or name the port: libvirt:DOMAIN:PORTNAME',
  ),
  'domain-port-unusable': fail('follow the message, or change the channel of the domain'),
  'virsh-missing': fail('install libvirt-clients'),
  'libvirt-silent': fail('systemctl status libvirtd virtqemud'),
  'libvirt-denied': fail('join the group libvirt, or run as root'),

  // Files, folders and programs
  'folder-missing': fail('correct the path, or create the folder'),
  'path-denied': fail('let this user search the folder (chmod +x), or run as its owner'),
  'path-remote': note('keep sockets, FIFOs and keys on a local file system'),
  'folder-denied': fail('choose another folder, change its owner or mode, or run as its owner'),
  'file-denied': fail('change the owner or the mode of the file, or run as its owner'),
  'file-not': fail('choose another path'),
  'file-writable': ok,
  'command-missing': fail('install it, or correct the command'),
  'command-found': ok,

  // Egresses, and proxy settings of programs
  'egress-open': ok,
  'egress-closed': warn('allow what may be reached, such as [egress.internet] allow = ["deb.debian.org:80,443"]'),
  'proxy-unserved': warn('add a forward that listens there, such as -o internet:127.0.0.1:3128, or remove the setting'),
  'proxy-other': note(),

  // Key files
  'key-good': ok,
  'key-missing': fail('vproxy genkey FILE, and copy it to the other side'),
  'key-denied': fail('give the file to the user that vproxy runs as'),
  'key-not-file': fail('use a key file'),
  'key-owner': fail('chown it to the user that vproxy runs as'),
  'key-open': fail('chmod 600, and make a new key if others may have read this one'),
  'key-invalid': fail('vproxy genkey FILE makes one'),
  'key-differs': warn('send vproxy SIGHUP to reload its key files; both sides need the same key'),

  // Running vproxy processes and their peers
  'vproxy-runs': ok,
  'vproxy-none': note(),
  'vproxy-hidden': note('set XDG_RUNTIME_DIR, or give --socket PATH'),
  'control-stale': warn('remove it, or start the vproxy of that name'),
  'control-silent': fail('inspect that process; kill -ABRT dumps core'),
  'control-denied': note('run as that user, or as root'),
  'node-slower': note('install Node 24, or use the single executable or a package, which have it'),
  'version-here': note('restart it after an upgrade'),
  'name-twice': warn('give each its own --name'),
  'channel-contested': fail('stop all of them but one'),
  'session-up': ok,
  'session-suspended': warn('see the other findings about this channel'),
  'session-waiting': warn(
    "see the other findings about this channel; without any, wait until the guest has booted, and then run systemctl status 'vproxy-guest@*' there",
  ),
  'session-unanswered': warn('start vproxy at the other end, and check that nothing else has the channel open there'),
  'session-auth': fail('give both sides the same key with --key FILE'),
  'session-failed': fail('see the other findings about this channel'),
  'session-unsteady': warn('compare vproxy events on both sides'),
  'session-ended': note(),
  'peer-silent': warn('check whether the VM is paused'),
  'resume-one-sided': note('append ,resume=60s to the channel on both sides'),
  'peer-version': note('upgrade the older side when convenient'),
  'peer-clock': warn('start vproxy in the guest with --follow-clock, or keep both clocks in sync (chrony)'),
  'options-refused': warn(
    "mend VPROXY_OPTIONS in the guest, in /etc/default/vproxy-guest (vproxy-port), and systemctl reload 'vproxy-guest@*' ('vproxy-port@*')",
  ),
  'service-missing': warn('give the peer -i for this service'),
} as const satisfies Readonly<Record<string, FindingRow>>;

export type FindingId = keyof typeof FINDINGS;

/** A result of a check. */
export interface Finding extends FindingRow {
  readonly id: FindingId;
  /** One human-readable line; foreign text in it is escaped. */
  readonly message: string;
}

/** Whether a guest's service was refused its options; `who` it is of. */
export const refusedOptions = (who: string, instead: 'last' | 'none' | null | undefined): Finding[] =>
  instead ? [finding('options-refused', `${who}: ${describeRefused(instead)}`)] : [];

/** Makes a finding of row `id`; `remedy` overrides that of the row. */
export const finding = (id: FindingId, message: string, remedy: string | null = FINDINGS[id].remedy): Finding => ({
  level: FINDINGS[id].level,
  id,
  message,
  remedy,
});
