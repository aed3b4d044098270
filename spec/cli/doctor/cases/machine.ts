/** The machine, the arguments, the logs, and the doctor itself. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { runJobs } from '../../../../cli/doctor/jobs.js';
import { checkDenials } from '../../../../cli/doctor/subjects/denials.js';
import { checkFiles, checkMachine, checkQemu, checkTerminals } from '../../../../cli/doctor/subjects/machine-facts.js';
import { checkBuffer } from '../../../../cli/doctor/subjects/socket-buffer.js';
import { temporaryFolder } from '../../../helpers/files.js';
import { type FakeMachine, fakeMachine, fakeMachineWithProc, pretend } from '../../../helpers/machines.js';
import { anywhere, doctor, finds } from './case.js';

const NOW_S = 1_800_000_000;

/** Checks a log with these lines. */
function denials(t: ExecutionContext, ...lines: readonly string[]) {
  const log = join(temporaryFolder(t), 'audit.log');
  writeFileSync(log, lines.map((line) => `${line}\n`).join(''));
  return checkDenials(fakeMachine(t, { logs: [log], nowMs: NOW_S * 1000 }), { paths: ['/srv/vm1.sock'] });
}

const QEMU = 'system_u:system_r:svirt_tcg_t:s0:c1,c2';
const avc = (agoS: number, comm: string, path: string, context = QEMU) =>
  `type=AVC msg=audit(${NOW_S - agoS}.123:456): avc:  denied  { connectto } for  pid=812 comm="${comm}" path="${path}" scontext=${context} tcontext=system_u:system_r:unconfined_service_t:s0 tclass=unix_stream_socket permissive=0`;

const apparmor = (name: string) =>
  `audit: type=1400 audit(${NOW_S - 60}.100:77): apparmor="DENIED" operation="mknod" profile="libvirt-1b3b8a02-6d1f-4a13" name=${name} pid=99 comm="qemu-system-x86" requested_mask="c" denied_mask="c"`;

const ASKED = { bytes: 1_048_576 };

const machineWith = (t: ExecutionContext, koffi: boolean, machine: FakeMachine = {}) =>
  fakeMachine(t, { hasKoffi: () => Promise.resolve(koffi), ...machine });

export const MACHINE_CASES = [
  finds('machine-facts', 'it runs as root', /Node \d+\.\d+.*Linux.*, checked as root$/, (t) =>
    checkMachine(fakeMachine(t, { userId: 0 })),
  ),
  finds('machine-facts', 'it runs as a user', /, checked as user 7$/, (t) =>
    checkMachine(fakeMachine(t, { userId: 7 })),
  ),
  finds('not-root', 'it runs as another user', (t) => checkMachine(fakeMachine(t, { userId: 1234 }))),
  finds('proc-missing', 'there is no /proc', (t) => checkMachine(fakeMachineWithProc(t))),
  finds('files-low', 'streams need more open files than the limit', { remedy: /LimitNOFILE=20064/ }, (t) => {
    const limits = 'Max open files            1024                 524288               files\n';
    const machine = fakeMachineWithProc(t, { files: { 'proc/77/limits': limits } });
    return checkFiles(machine, { pid: 77, streams: [20_000] });
  }),
  finds('koffi-missing', 'koffi cannot be loaded', (t) => checkTerminals(machineWith(t, false))),
  finds(
    'buffer-bounded',
    'the kernel grants less than requested',
    {
      says: /grants 425984 of 1048576 bytes/,
      remedy: /^sysctl -w net\.core\.wmem_max=524288; .* = 524288 in \/etc\/sysctl\.d\/60-vproxy\.conf; or run /,
    },
    (t) => checkBuffer(machineWith(t, true, { grantedBuffer: () => Promise.resolve(425_984) }), ASKED),
  ),
  finds('buffer-no-koffi', 'koffi cannot be loaded', (t) => checkBuffer(machineWith(t, false), ASKED)),
  finds(
    'qemu-found',
    'a QEMU runs, with its name and its sockets',
    /qemu-system-x86.*is the VM vm1; sockets: \/run\/vm1\.sock/,
    async (t) => {
      const chardev = 'socket,id=c0,path=/run/vm1.sock,server=on,wait=off';
      const words = ['-name', 'guest=vm1,debug-threads=on', '-chardev', chardev];
      await pretend(t, { program: 'qemu-system-x86', words });
      return checkQemu(fakeMachine(t));
    },
  ),
  anywhere('bad-file', 'the file is not valid, with each error', /incomming/, (t) => {
    const file = join(temporaryFolder(t), 'vproxy.toml');
    writeFileSync(file, '[channels.vm1]\naddress = "unix-connect:/run/vm1.sock"\nincomming = ["ssh:22"]\n');
    return doctor(t, ['--config', file]);
  }),
  anywhere(
    'bad-argument',
    'a channel would be open to the network, and two are the same',
    /--insecure[^]*\/x is already in use by channel b/,
    (t) =>
      doctor(
        t,
        ['a=tcp-listen:0.0.0.0:0', 'b=unix-connect:/x', 'c=unix-connect:/x'].flatMap((one) => ['-c', one]),
      ),
  ),
  finds(
    'selinux-denied',
    'QEMU was denied a connection, with where, and how often',
    /^qemu-system-x86 was denied connectto unix_stream_socket of \/run\/vproxy\/x \(.*2 times, last at 2027-/,
    (t) => denials(t, avc(50, 'qemu-system-x86', '/run/vproxy/x'), avc(5, 'qemu-system-x86', '/run/vproxy/x')),
  ),
  finds('selinux-denied', 'another program was denied the path of a channel', /^socat was denied/, (t) =>
    denials(t, avc(5, 'socat', '/srv/vm1.sock', 'user_u:user_r:user_t:s0')),
  ),
  finds('selinux-denied', 'the log is long, and its end is read', /^vproxy-last [^\n]*$/, (t) =>
    denials(t, avc(5, 'vproxy-first', '/x'), 'x'.repeat(600_000), avc(5, 'vproxy-last', '/x')),
  ),
  finds(
    'apparmor-denied',
    'QEMU was denied a socket with a hexadecimal name',
    /of \/srv\/v m\.sock \(profile libvirt-/,
    (t) => denials(t, apparmor(Buffer.from('/srv/v m.sock').toString('hex').toUpperCase())),
  ),
  finds('denials-none', 'the denials are old, or concern others', (t) =>
    denials(
      t,
      avc(100_000, 'qemu-system-x86', '/run/vproxy/x'),
      avc(5, 'cupsd', '/run/cups/x', 'system_u:system_r:cupsd_t:s0'),
      'type=USER_LOGIN msg=audit(1800000000.000:1): denied',
    ),
  ),
  finds('denials-unseen', 'SELinux is active, and no log can be read', (t) => {
    const machine = fakeMachine(t, { files: { 'sys/fs/selinux/enforce': '1' }, logs: ['/nowhere/audit.log'] });
    return checkDenials(machine, { paths: [] });
  }),
  finds('check-slow', 'a check does not end', () =>
    runJobs([{ check: 'x', subject: 'x', run: () => new Promise(() => undefined) }], 10),
  ),
  finds('check-failed', 'a check throws', /^no \\x1b luck$/, () =>
    runJobs([{ check: 'x', subject: 'x', run: () => Promise.reject(new Error('no \u001b luck')) }], 60_000),
  ),
];
