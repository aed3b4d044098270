/** Which channels of vproxy belong to a port: at the host, and in the guest. */
import { joinWithCommas } from '../../lib/util/comma-list.js';
import { formatHostPort } from '../../lib/util/host-port.js';
import { formatPath } from '../../lib/util/unix-path.js';
import type { HostEnd, HypervisorPort } from './hypervisor-port.js';

/** What the host's vproxy has behind its `-c`: where QEMU listens it connects, and the other way round. */
export function hostChannel({ name, end }: HypervisorPort): string {
  const [kind, address] = describeEnd(end, name);
  return `${kind}:${joinWithCommas([address])}`;
}

/** What the guest's vproxy has behind its `-c`. */
export function guestChannel({ name }: HypervisorPort): string {
  return `virtserial-open:${name}`;
}

function describeEnd(end: HostEnd, name: string): [kind: string, address: string] {
  if (end.kind === 'pipe') return ['pipe-open', formatPath(end.path)];
  if (end.kind === 'tcp') return [end.mode === 'bind' ? 'tcp-connect' : 'tcp-listen', formatHostPort(end)];
  if (end.path === null) return ['libvirt', `DOMAIN:${name}`];
  return [end.mode === 'bind' ? 'unix-connect' : 'unix-listen', formatPath(end.path)];
}
