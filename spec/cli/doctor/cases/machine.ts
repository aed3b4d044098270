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
import { doctor, type FindingCase } from './case.js';

const NOW_S = 1_800_000_000;

/** Looks at a log that has these lines. */
function denials(t: ExecutionContext, lines: readonly string[], machine: FakeMachine = {}) {
  const log = join(temporaryFolder(t), 'audit.log');
  writeFileSync(log, lines.map((line) => `${line}\n`).join(''));
  return checkDenials(fakeMachine(t, { logs: [log], nowMs: NOW_S * 1000, ...machine }), { paths: ['/srv/vm1.sock'] });
}

const avc = (seconds: number, comm: string, path: string, context = 'system_u:system_r:svirt_tcg_t:s0:c1,c2') =>
  `type=AVC msg=audit(${seconds}.123:456): avc:  denied  { connectto } for  pid=812 comm="${comm}" path="${path}" scontext=${context} tcontext=system_u:system_r:unconfined_service_t:s0 tclass=unix_stream_socket permissive=0`;

const apparmor = (name: string) =>
  `audit: type=1400 audit(${NOW_S - 60}.100:77): apparmor="DENIED" operation="mknod" profile="libvirt-1b3b8a02-6d1f-4a13" name=${name} pid=99 comm="qemu-system-x86" requested_mask="c" denied_mask="c"`;

const ASKED = { bytes: 1_048_576 };
const WITH_KOFFI = { hasKoffi: () => Promise.resolve(true) };
const granting = (most: number) => (bytes: number) => Promise.resolve(Math.min(most, bytes));

/** Each finding about them. */
export const MACHINE_CASES: readonly FindingCase[] = [
  { id: 'machine-facts', when: 'it looks', says: /Node \d+\.\d+.*Linux/, find: (t) => checkMachine(fakeMachine(t)) },
  { id: 'node-old', when: 'Node is old', find: (t) => checkMachine(fakeMachine(t, { nodeVersion: '20.18.3' })) },
  { id: 'not-root', when: 'it looks as another user', find: (t) => checkMachine(fakeMachine(t, { userId: 1234 })) },
  { id: 'proc-missing', when: 'there is no /proc', find: (t) => checkMachine(fakeMachineWithProc(t)) },
  {
    id: 'files-low',
    when: 'streams need more open files than there may be',
    remedy: /LimitNOFILE=20064/,
    find: (t) =>
      checkFiles(
        fakeMachineWithProc(t, {
          files: { 'proc/77/limits': 'Max open files            1024                 524288               files\n' },
        }),
        { pid: 77, streams: [20_000] },
      ),
  },
  {
    id: 'koffi-missing',
    when: 'koffi cannot be loaded',
    find: (t) => checkTerminals(fakeMachine(t, { hasKoffi: () => Promise.resolve(false) })),
  },
  {
    id: 'buffer-bounded',
    when: 'the kernel grants less than is asked for',
    says: /of 1048576 bytes .* grants 425984/,
    remedy: /^sysctl -w net\.core\.wmem_max=524288; .*\/etc\/sysctl\.d\/60-vproxy\.conf$/,
    find: (t) => checkBuffer(fakeMachine(t, { ...WITH_KOFFI, grantedBuffer: granting(425_984) }), ASKED),
  },
  {
    id: 'buffer-no-koffi',
    when: 'koffi cannot be loaded',
    find: (t) => checkBuffer(fakeMachine(t, { hasKoffi: () => Promise.resolve(false) }), ASKED),
  },
  {
    id: 'qemu-found',
    when: 'a QEMU runs, with its name and its sockets',
    says: /qemu-system-x86.*is the VM vm1; sockets: \/run\/vm1\.sock/,
    async find(t) {
      const chardev = 'socket,id=c0,path=/run/vm1.sock,server=on,wait=off';
      await pretend(t, {
        program: 'qemu-system-x86',
        words: ['-name', 'guest=vm1,debug-threads=on', '-chardev', chardev],
      });
      return checkQemu(fakeMachine(t));
    },
  },
  {
    id: 'config-invalid',
    when: 'the file is not valid, with each thing that is wrong',
    says: /incomming/,
    find(t) {
      const file = join(temporaryFolder(t), 'vproxy.toml');
      writeFileSync(file, '[channels.vm1]\naddress = "unix-connect:/run/vm1.sock"\nincomming = ["ssh:22"]\n');
      return doctor(t, ['--config', file]);
    },
  },
  {
    id: 'channel-refused',
    when: 'the channel would be open to the network',
    says: /--insecure/,
    find: (t) => doctor(t, ['-c', 'tcp-listen:0.0.0.0:0']),
  },
  {
    id: 'selinux-denied',
    when: 'QEMU was denied a connection, with where, and how often',
    says: /^qemu-system-x86 was denied connectto unix_stream_socket of \/run\/vproxy\/x \(.*2 times, last at 2027-/,
    find: (t) =>
      denials(t, [
        avc(NOW_S - 50, 'qemu-system-x86', '/run/vproxy/x'),
        avc(NOW_S - 5, 'qemu-system-x86', '/run/vproxy/x'),
      ]),
  },
  {
    id: 'selinux-denied',
    when: 'another program was denied the path of a channel',
    says: /^socat was denied/,
    find: (t) => denials(t, [avc(NOW_S - 5, 'socat', '/srv/vm1.sock', 'user_u:user_r:user_t:s0')]),
  },
  {
    id: 'apparmor-denied',
    when: 'QEMU was denied a socket, whose name is in hexadecimal',
    says: /of \/srv\/v m\.sock \(profile libvirt-/,
    find: (t) => denials(t, [apparmor(Buffer.from('/srv/v m.sock').toString('hex').toUpperCase())]),
  },
  {
    id: 'denials-none',
    when: 'what was denied is old, or concerns others',
    find: (t) =>
      denials(t, [
        avc(NOW_S - 100_000, 'qemu-system-x86', '/run/vproxy/x'),
        avc(NOW_S - 5, 'cupsd', '/run/cups/x', 'system_u:system_r:cupsd_t:s0'),
        'type=USER_LOGIN msg=audit(1800000000.000:1): denied',
      ]),
  },
  {
    id: 'denials-unseen',
    when: 'SELinux is in force, and no log can be read',
    find: (t) =>
      checkDenials(fakeMachine(t, { files: { 'sys/fs/selinux/enforce': '1' }, logs: ['/nowhere/audit.log'] }), {
        paths: [],
      }),
  },
  {
    id: 'check-slow',
    when: 'a check does not end',
    find: () => runJobs([{ check: 'x', subject: 'x', run: () => new Promise(() => undefined) }], 10),
  },
  {
    id: 'check-failed',
    when: 'a check throws',
    says: /^no \\x1b luck$/,
    find: () => runJobs([{ check: 'x', subject: 'x', run: () => Promise.reject(new Error('no \u001b luck')) }], 60_000),
  },
];
