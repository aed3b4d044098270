/** Domains of libvirt, described by a fake virsh. */
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { checkLocation } from '../../../../cli/doctor/locations/location.js';
import { temporaryFolder } from '../../../helpers/files.js';
import { channelXml, domainXml, fakeVirsh } from '../../../helpers/libvirt.js';
import { type FakeMachine, fakeMachine, pretend } from '../../../helpers/machines.js';
import { atDomain, atFifo, atLine, atSocket, atTcp, atVirsh, doctor, finds } from './case.js';

const look = (t: ExecutionContext, machine: FakeMachine) =>
  checkLocation(fakeMachine(t, machine), { is: 'domain-port', domain: 'vm1', port: null, uri: null }, null);

/** Checks the domain with this script as virsh. */
function withVirsh(t: ExecutionContext, script: string, machine: FakeMachine = {}) {
  const virsh = fakeVirsh(t);
  virsh.become(script);
  return look(t, { virsh: virsh.path, ...machine });
}

const withError = (t: ExecutionContext, message: string) => withVirsh(t, `echo 'error: ${message}' >&2; exit 1`);

function withXml(t: ExecutionContext, xml: string) {
  const virsh = fakeVirsh(t);
  virsh.print(xml);
  return look(t, { virsh: virsh.path });
}

const withChannel = (t: ExecutionContext, type: string, source: string) =>
  withXml(t, domainXml(channelXml(type, source)));

export const DOMAIN_CASES = [
  finds('domain-port', 'it runs', /the domain vm1 is running; its port org\.vproxy\.0 is unix \//, async (t) => {
    const [path, virsh] = [join(temporaryFolder(t), 's'), fakeVirsh(t)];
    virsh.print(domainXml(channelXml('unix', `<source mode='bind' path='${path}'/>`)));
    await pretend(t, { program: 'qemu-system-x86', listen: path });
    const found = await doctor(t, ['-c', 'libvirt:vm1'], virsh.env);
    t.true(found.some(({ id }) => id === 'socket-listens'));
    return found;
  }),
  atSocket('channel-missing', 'libvirt names a socket that does not exist', (t) =>
    withChannel(t, 'unix', `<source mode='bind' path='${temporaryFolder(t)}/none'/>`),
  ),
  ...(
    [
      ['0.0.0.0', /^nothing listens on 127\.0\.0\.1:1$/],
      ['::', /^nothing listens on \[::1\]:1$/],
      ['127.0.0.2', /^nothing listens on 127\.0\.0\.2:1$/],
    ] as const
  ).map(([host, says]) =>
    atTcp('channel-refused', `nothing listens on the port of a domain, on ${host}`, says, (t) =>
      withChannel(t, 'tcp', `<source mode='bind' host='${host}' service='1'/><protocol type='raw'/>`),
    ),
  ),
  atFifo('channel-missing', 'a domain has a pipe', (t) => withChannel(t, 'pipe', "<source path='/nowhere'/>")),
  atLine('channel-missing', 'a domain has a pty', (t) => withChannel(t, 'pty', "<source path='/dev/pts/99999'/>")),
  atVirsh('channel-missing', 'libvirt does not know it', (t) => withError(t, 'failed to get domain vm1')),
  atDomain('channel-missing', 'it is shut off', { remedy: /virsh start vm1/ }, (t) =>
    withXml(t, '<domain><devices/></domain>'),
  ),
  atDomain('channel-missing', 'it has no port', (t) => withXml(t, domainXml())),
  atDomain('channel-unusable', 'QEMU connects instead of listening', /unix-listen/, (t) =>
    withChannel(t, 'unix', "<source mode='connect' path='/run/x'/>"),
  ),
  atVirsh('channel-unusable', 'it is not installed', (t) => look(t, { virsh: '/nowhere/virsh' })),
  atVirsh('channel-refused', 'libvirtd does not run', (t) => withError(t, 'failed to connect to the hypervisor')),
  atVirsh('channel-failed', 'virsh hangs; it has more than half of the time of a check', /within 1200 ms/, (t) =>
    withVirsh(t, 'exec sleep 60', { timeoutMs: 2000 }),
  ),
  atVirsh('channel-denied', 'this user is not allowed', (t) =>
    withError(t, 'authentication unavailable: no polkit agent'),
  ),
];
