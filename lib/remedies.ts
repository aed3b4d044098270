/**
 * What to do about a failure: said once, for the log, the doctor and docs/errors.md. Each code has a remedy wherever it occurs,
 * and a better one where it is known what failed. A spec compares docs/errors.md with the table.
 */
import { type ErrorCode, VproxyError } from './errors.js';

const SAME_VERSION = 'make both sides the same version; if they are, report it';
const SOCKET = 'start the VM or the program that creates the socket, or correct the path';
const LIBVIRTD = 'check that libvirtd runs: systemctl status libvirtd virtqemud';

/** By what failed: anything, the destination of a channel or a forward (`ChannelLocation`), or something else; and by code. */
export const REMEDIES = {
  anything: {
    'channel-missing': 'start the VM, or correct the path or the name of the channel',
    'channel-busy': 'stop the other program that has the channel open',
    'channel-refused': 'start what listens at the other end of the channel',
    'channel-failed': 'see vproxy events -v for the system error',
    'channel-closed': 'find out why the other end closes the channel: did its VM or its vproxy exit?',
    'channel-silent': 'check that the other machine is up, or raise --dead-after',
    'channel-displaced': 'let only one process connect to this channel',
    'channel-unusable': 'correct the channel: what is there cannot be used as one',
    'channel-denied': 'run vproxy as a user who may open the channel, or as root',
    'address-in-use': 'stop the process that listens there or remove the file, or choose another address',
    'bad-argument': 'correct the options',
    'bad-file': 'correct the file or its path; check it with vproxy check FILE',
    'auth-failed': 'give both sides the same key with --key FILE, and the same tls=',
    'version-mismatch': 'upgrade the older side',
    desync: 'nothing after a restart; if it persists, check what else reads or writes the channel',
    'peer-restarted': 'nothing, if the restart was intended; otherwise find out why the peer exits',
    'protocol-error': SAME_VERSION,
    'flow-control': SAME_VERSION,
    flood: 'find what opens that many connections on the other side',
    internal: 'report it, with the log of vproxy -vv',
  },
  'unix-socket': {
    'channel-missing': SOCKET,
    'channel-refused': SOCKET,
    'channel-denied':
      'run as the owner of the socket or as root, or have the program that creates it give it to a group of this user',
    'channel-unusable': "use the path of a stream socket, such as a chardev's",
  },
  'tcp-port': {
    'channel-missing': 'correct the name, or use the address',
    'channel-refused': 'start the program that listens there, or correct the address',
    'channel-failed': 'check firewalls, the network configuration of this machine, and whether the other one is up',
  },
  'tcp-listener': {
    'address-in-use': 'stop the process that listens there, or choose another address',
    'address-unavailable': 'choose an address of this machine, or 127.0.0.1',
    'address-denied': 'choose a higher port, or give the unit AmbientCapabilities=CAP_NET_BIND_SERVICE',
  },
  'virtio-port': {
    'channel-missing': 'give the VM a virtserialport with that name, or correct the name',
    'channel-denied': 'run as root, or have udev give the port to a group: packaging/udev/60-vproxy.rules',
    'channel-unusable':
      'give the VM a virtserialport, and use its device; port 0 of a device is reserved for a console',
    'channel-failed': 'check the kernel log (dmesg)',
  },
  'serial-line': {
    'channel-missing': 'give the VM a serial port, or correct the path',
    'channel-denied': 'run as root, or join the group of the device (often dialout)',
    'channel-unusable':
      'use the device of a serial line, such as /dev/ttyS1; if it is a console, remove its console= from the kernel command line',
  },
  stty: { 'channel-unusable': 'install coreutils or busybox' },
  fifos: {
    'channel-missing': 'vproxy pipe-create PATH; the channel has PATH without .in and .out',
    'channel-denied': 'vproxy pipe-create with --owner and --mode, or run as its owner',
    'channel-unusable': 'remove it, and create the FIFOs with vproxy pipe-create',
  },
  vsock: {
    'channel-missing':
      'modprobe vmw_vsock_virtio_transport in a guest, vhost_vsock on a host; give the VM a vhost-vsock device',
    'channel-unusable': 'npm install koffi, or use exec: with socat',
  },
  virsh: {
    'channel-missing': 'virsh list --all; add uri=qemu:///system if virsh connects elsewhere by default',
    'channel-refused': LIBVIRTD,
    'channel-failed': LIBVIRTD,
    'channel-denied': 'join the group libvirt, or run as root',
    'channel-unusable': 'install virsh (Debian: libvirt-clients)',
  },
  'domain-port': {
    'channel-missing':
      'virsh start DOMAIN; if it lacks the port, add the channel that vproxy libvirt-xml prints (virsh edit), or name another: libvirt:DOMAIN:PORTNAME',
    'channel-unusable':
      'follow the message, or change the channel of the domain (virsh edit), or name the port: libvirt:DOMAIN:PORTNAME',
  },
  'key-file': {
    'bad-file': 'make one with vproxy genkey FILE (remove a wrong file there first), and copy it to the other side',
  },
  'secret-file': {
    'bad-file':
      'run chmod 600, and chown to the user that vproxy runs as; make a new key if others may have read this one',
  },
} as const satisfies Readonly<Record<string, Readonly<Partial<Record<ErrorCode, string>>>>>;

/** What failed. */
export type Subject = keyof typeof REMEDIES;

/** By `subject code`: both may be any text. */
const BY_NAMES: ReadonlyMap<string, string> = new Map(
  Object.entries(REMEDIES).flatMap(([subject, table]) =>
    Object.entries<string>(table).map(([code, text]) => [`${subject} ${code}`, text]),
  ),
);

/** What to do about a failure of `subject`; null for a code without a remedy. */
export const remedyFor = (code: string, subject = 'anything'): string | null =>
  BY_NAMES.get(`${subject} ${code}`) ?? BY_NAMES.get(`anything ${code}`) ?? null;

/** The error with its remedy at the end of its message, unless that ends with one. */
export function withRemedy(error: VproxyError, subject?: string): VproxyError {
  const isSaid = [...BY_NAMES.values()].some((text) => error.message.endsWith(text));
  const remedy = isSaid ? null : remedyFor(error.code, subject);
  return remedy === null ? error : new VproxyError(error.code, `${error.message}; ${remedy}`, { cause: error.cause });
}
