/** Domains of libvirt, which a virsh of the test's own describes. */
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { checkLocation } from '../../../../cli/doctor/locations/location.js';
import { temporaryFolder } from '../../../helpers/files.js';
import { channelXml, domainXml, fakeVirsh } from '../../../helpers/libvirt.js';
import { fakeMachine, pretend } from '../../../helpers/machines.js';
import { doctor, type FindingCase } from './case.js';

const look = (t: ExecutionContext, virsh: string) =>
  checkLocation(fakeMachine(t, { virsh }), { is: 'domain-port', domain: 'vm1', port: null, uri: null }, null);

/** With a virsh that prints this. */
function withXml(t: ExecutionContext, xml: string) {
  const virsh = fakeVirsh(t);
  virsh.print(xml);
  return look(t, virsh.path);
}

/** With a virsh that fails like this. */
function withError(t: ExecutionContext, message: string) {
  const virsh = fakeVirsh(t);
  virsh.become(`echo 'error: ${message}' >&2; exit 1`);
  return look(t, virsh.path);
}

const bound = (path: string) => channelXml('unix', `<source mode='bind' path='${path}'/>`);

/** Each finding about them. */
export const DOMAIN_CASES: readonly FindingCase[] = [
  {
    id: 'domain-port',
    when: 'it runs, by the real command',
    says: /the domain vm1 runs, and its port org\.vproxy\.0 is unix \//,
    async find(t) {
      const path = join(temporaryFolder(t), 's');
      const virsh = fakeVirsh(t);
      virsh.print(domainXml(bound(path)));
      await pretend(t, { program: 'qemu-system-x86', listen: path });
      const found = await doctor(t, ['-c', 'libvirt:vm1'], { env: virsh.env });
      t.true(found.some(({ id }) => id === 'socket-listens'));
      return found;
    },
  },
  {
    id: 'socket-missing',
    when: 'libvirt names a socket that is not there',
    find: (t) => withXml(t, domainXml(bound(join(temporaryFolder(t), 'none')))),
  },
  ...(
    [
      ['0.0.0.0', /^nobody listens on 127\.0\.0\.1:1$/],
      ['::', /^nobody listens on \[::1\]:1$/],
      ['127.0.0.2', /^nobody listens on 127\.0\.0\.2:1$/],
    ] as const
  ).map(
    ([host, says]): FindingCase => ({
      id: 'tcp-refused',
      when: `nobody listens at the port of a domain, on ${host}`,
      says,
      find: (t) =>
        withXml(
          t,
          domainXml(channelXml('tcp', `<source mode='bind' host='${host}' service='1'/><protocol type='raw'/>`)),
        ),
    }),
  ),
  {
    id: 'fifo-missing',
    when: 'a domain has a pipe',
    find: (t) => withXml(t, domainXml(channelXml('pipe', "<source path='/nowhere'/>"))),
  },
  {
    id: 'line-missing',
    when: 'a domain has a pty',
    find: (t) => withXml(t, domainXml(channelXml('pty', "<source path='/dev/pts/99999'/>"))),
  },
  {
    id: 'domain-missing',
    when: 'libvirt does not know it',
    find: (t) => withError(t, 'failed to get domain vm1'),
  },
  {
    id: 'domain-off',
    when: 'it is shut off',
    remedy: /virsh start vm1/,
    find: (t) => withXml(t, '<domain><devices/></domain>'),
  },
  { id: 'domain-no-port', when: 'it has none', find: (t) => withXml(t, domainXml()) },
  {
    id: 'domain-port-unusable',
    when: 'QEMU is the one that connects',
    says: /unix-listen/,
    find: (t) => withXml(t, domainXml(channelXml('unix', "<source mode='connect' path='/run/x'/>"))),
  },
  { id: 'virsh-missing', when: 'it is not installed', find: (t) => look(t, '/nowhere/virsh') },
  {
    id: 'libvirt-silent',
    when: 'libvirtd does not run',
    find: (t) => withError(t, 'failed to connect to the hypervisor'),
  },
  {
    id: 'libvirt-silent',
    when: 'virsh hangs',
    says: /within 1200 ms/,
    find(t) {
      const virsh = fakeVirsh(t);
      virsh.become('exec sleep 60');
      const machine = fakeMachine(t, { virsh: virsh.path, timeoutMs: 2000 });
      return checkLocation(machine, { is: 'domain-port', domain: 'vm1', port: null, uri: null }, null);
    },
  },
  {
    id: 'libvirt-denied',
    when: 'this user may not',
    find: (t) => withError(t, 'authentication unavailable: no polkit agent'),
  },
];
