/** Findings about the machine, the arguments, and the doctor itself. */
import { type FindingRows, fail, note, ok, warn } from './row.js';

/** By id. */
export const MACHINE_FINDINGS = {
  'machine-facts': ok('The kernel, Node, and the user as whom the doctor looks.'),
  'node-old': fail('This Node is older than the oldest with which vproxy is tested.', 'install Node 20.19 or newer'),
  'not-root': note(
    'Without root, the descriptors of other users’ processes cannot be seen.',
    'run it as root to see who has what',
  ),
  'proc-missing': warn('There is no /proc, so it cannot be seen who has what.', 'mount -t proc proc /proc'),
  'files-low': warn(
    'The process may have fewer files open than its channels may have streams.',
    'ulimit -n, or LimitNOFILE= of the unit',
  ),
  'koffi-missing': warn(
    'The optional package koffi cannot be loaded: the commands of a peer get a simpler terminal.',
    'npm install koffi',
  ),
  'qemu-found': ok('QEMU runs here.'),
  'config-invalid': fail('The configuration cannot be used as it is.', 'correct the file; vproxy check FILE'),
  'channel-refused': fail('These options would be refused.', 'correct the options'),
  'not-checked': note('There is nothing that could be looked at beforehand.', null),
  'selinux-denied': warn(
    'SELinux has denied something to vproxy or QEMU within the last day.',
    'ausearch -m avc -ts recent; see docs/services.md',
  ),
  'apparmor-denied': warn(
    'AppArmor has denied something to vproxy or QEMU within the last day.',
    'add the path to the profile; see docs/services.md',
  ),
  'denials-none': ok('No denial of SELinux or AppArmor that concerns vproxy or QEMU is in the log.'),
  'denials-unseen': note('SELinux or AppArmor is in force, and none of the logs can be read.', 'run it as root'),
  'check-slow': warn(
    'A check took too long and was given up.',
    'see what does not answer: a network file system, a name server; or give it more time: --timeout',
  ),
  'check-failed': warn('A check failed by itself.', 'report it, with the message'),
} as const satisfies FindingRows;
