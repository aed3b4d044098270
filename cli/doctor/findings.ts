/**
 * The findings of the doctor. What an attempt would fail with has the code and the remedy of that error (lib/remedies.ts); what
 * only the doctor sees has a row here. docs/doctor.md explains each row; one spec compares the two, and another provokes each.
 */
import { type ErrorCode, toVproxyError, type VproxyError } from '../../lib/errors.js';
import { remedyFor, type Subject } from '../../lib/remedies.js';
import { describeRefused } from '../ui/machine-history.js';

/** Severity of a finding: `fail` must be fixed, `warn` most likely must be, `note` is information. */
export type Level = 'ok' | 'note' | 'warn' | 'fail';

interface FindingRow {
  readonly level: Level;
  /** What to do, or null; a check knows what its words in capitals stand for, or something better. */
  readonly remedy: string | null;
}

const ok: FindingRow = { level: 'ok', remedy: null };
const note = (remedy: string | null = null): FindingRow => ({ level: 'note', remedy });
const warn = (remedy: string): FindingRow => ({ level: 'warn', remedy });
const fail = (remedy: string): FindingRow => ({ level: 'fail', remedy });

/** By id. A code of an error has no row: its remedy stands in lib/remedies.ts. */
export const FINDINGS = {
  // The machine, the arguments, and the logs
  'machine-facts': ok,
  'not-root': note('run as root to see the open files of all processes'),
  'proc-missing': warn('mount -t proc proc /proc'),
  'files-low': warn('LimitNOFILE=COUNT in the unit, or ulimit -n COUNT'),
  'koffi-missing': warn('npm install koffi'),
  'buffer-bounded': note(
    'sysctl -w net.core.wmem_max=BYTES; to persist it, net.core.wmem_max = BYTES in /etc/sysctl.d/60-vproxy.conf; or run vproxy with CAP_NET_ADMIN',
  ),
  'buffer-no-koffi': note('npm install koffi'),
  'qemu-found': ok,
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
  'port-no-link': warn(
    'udevadm trigger --subsystem-match=virtio-ports, or give the name of the port instead of a path',
  ),
  'port-no-device': fail('mount devtmpfs at /dev, or give the container the device'),
  'port-no-host': warn('start vproxy on the host with the channel of this port'),
  'port-host': ok,

  // Sockets to connect to
  'socket-listens': ok,
  'socket-answered': ok,
  'not-vproxy': fail('connect to the port or the socket of vproxy, not to a monitor, a console or another server'),
  'socket-queue': warn('stop the programs that are waiting'),
  'process-stopped': warn('resume it: kill -CONT PID'),
  'group-members': ok,
  'group-empty': warn('start a VM, or correct the pattern'),
  'tcp-answers': ok,
  'ssh-socket': note('-i SERVICE:/run/ssh-unix-local/socket'),
  'tcp-taken': warn('stop the program that is connected'),

  // Addresses to listen on
  'listen-free': ok,
  'listen-stale': note(),
  'held-by-vproxy': ok,

  // Serial lines, pipes, AF_VSOCK
  'line-getty': fail('systemctl mask --now UNIT'),
  'line-free': ok,
  'fifo-alone': warn('start the VM with -chardev pipe and this path'),
  'fifo-qemu': ok,
  'vsock-cid': ok,
  'vsock-own': note('modprobe vsock_loopback; the host is CID 2'),

  // Domains of libvirt
  'domain-port': ok,

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
  'key-differs': warn('send vproxy SIGHUP to reload its key files; both sides need the same key'),

  // Running vproxy processes and their peers
  'vproxy-runs': ok,
  'vproxy-none': note(),
  'vproxy-hidden': note('set XDG_RUNTIME_DIR, or give --socket PATH'),
  'control-stale': warn('rm SOCKET, or start the vproxy of that name'),
  'control-silent': fail('inspect that process; kill -ABRT dumps core'),
  'control-denied': note('run as that user, or as root'),
  'node-slower': note('install Node 24, or use the single executable or a package, which have it'),
  'version-here': note('restart it after an upgrade'),
  'name-twice': warn('give each its own --name'),
  'channel-contested': fail('stop all of them but one: COMMANDS'),
  'session-up': ok,
  'session-suspended': warn('see the other findings about this channel'),
  'session-waiting': warn(
    "see the other findings about this channel; without any, wait until the guest has booted, and then run systemctl status 'vproxy-*' there",
  ),
  'session-unanswered': warn('start vproxy at the other end, and check that nothing else has the channel open there'),
  'session-failed': fail('see the other findings about this channel'),
  'session-unsteady': warn('compare vproxy events on both sides'),
  'session-ended': note(),
  'peer-silent': warn('check whether the VM is paused'),
  'resume-one-sided': note('append ,resume=60s to the channel on both sides'),
  'peer-version': note('upgrade the older side when convenient'),
  'peer-clock': warn('start vproxy in the guest with --follow-clock, or keep both clocks in sync (chrony)'),
  'options-refused': warn(
    "mend VPROXY_OPTIONS in the guest, in its file /etc/default/vproxy-*, and systemctl reload 'vproxy-*@*' there",
  ),
  'service-missing': warn('give the peer -i SERVICE:…'),
} as const satisfies Readonly<Record<string, FindingRow>> & Readonly<Partial<Record<ErrorCode, never>>>;

export type FindingId = keyof typeof FINDINGS;

export interface Finding extends FindingRow {
  readonly id: FindingId | VproxyError['code'];
  /** One human-readable line; foreign text in it is escaped. */
  readonly message: string;
}

/** Whether a guest's service was refused its options; `who` it is of. */
export const refusedOptions = (who: string, instead: 'last' | 'none' | null | undefined): Finding[] =>
  instead ? [finding('options-refused', `${who}: ${describeRefused(instead)}`)] : [];

/** What the words in capitals in a remedy stand for. */
export type Words = Readonly<Partial<Record<string, string>>>;

const fill = (remedy: string | null, words: Words): string | null =>
  remedy?.replace(/\b[A-Z]{3,}\b/g, (word) => words[word] ?? word) ?? null;

/** Makes a finding of row `id`; its remedy is that of the row, with its words filled in, or `remedy` instead. */
export const finding = (id: FindingId, message: string, remedy: string | null | Words = {}): Finding => {
  const isOwn = remedy === null || typeof remedy === 'string';
  return { level: FINDINGS[id].level, id, message, remedy: isOwn ? remedy : fill(FINDINGS[id].remedy, remedy) };
};

/** The finding of what an attempt at `subject` would fail with. */
export function failure(subject: Subject, code: VproxyError['code'], message: string, words: Words = {}): Finding {
  const remedy = remedyFor(code, subject);
  const what = remedy === null ? message : message.replace(`; ${remedy}`, '');
  return { level: 'fail', id: code, message: what, remedy: fill(remedy, words) };
}

/** The same for an error that was thrown. */
export function failureOf(subject: Subject, error: unknown, words?: Words): Finding {
  const { code, message } = toVproxyError(error);
  return failure(subject, code, message, words);
}
