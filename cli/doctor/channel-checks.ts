/** Which check looks at a channel of which kind. A kind without a row is `not-checked`. */
import type { ChannelAddress } from '../../lib/channel/address/address.js';
import type { LibvirtAddress } from '../../lib/channel/libvirt.js';
import type { TtyAddress } from '../../lib/channel/tty-open.js';
import type { VsockAddress } from '../../lib/channel/vsock.js';
import type { VsockMuxAddress } from '../../lib/channel/vsock-mux.js';
import type { HostPort } from '../../lib/util/addresses.js';
import { checkCommand } from './checks/command.js';
import { checkLibvirt } from './checks/libvirt.js';
import { checkPipe } from './checks/pipe.js';
import { checkTcpConnect } from './checks/tcp-connect.js';
import { checkTcpListen } from './checks/tcp-listen.js';
import { checkTty } from './checks/tty.js';
import { checkUnixSocket } from './checks/unix-connect.js';
import { checkUnixListen } from './checks/unix-listen.js';
import { checkVirtioPort } from './checks/virtio-port.js';
import { checkVsock } from './checks/vsock.js';
import type { Finding } from './finding.js';
import type { Machine } from './machine.js';

/** How a channel is looked at. `ownPid`: the vproxy that runs and has it, so nothing is connected or opened; null where none has. */
export type ChannelCheck = (machine: Machine, address: never, ownPid: number | null) => Promise<Finding[]> | Finding[];

/** By the name of the kind, as in lib/channel/kinds.ts. */
export const CHANNEL_CHECKS: Readonly<Record<string, ChannelCheck>> = {
  'unix-connect': (machine, path: string, ownPid) => checkUnixSocket(machine, { path, isExclusive: true, ownPid }),
  'unix-listen': (machine, path: string, ownPid) => checkUnixListen(machine, { path, isOurs: ownPid !== null }),
  'tcp-connect': (machine, address: HostPort, ownPid) =>
    checkTcpConnect(machine, { address, isExclusive: true, isOurs: ownPid !== null }),
  'tcp-listen': (machine, address: HostPort, ownPid) => checkTcpListen(machine, { address, isOurs: ownPid !== null }),
  'virtserial-open': (machine, address: string, ownPid) =>
    checkVirtioPort(machine, { address, isOurs: ownPid !== null }),
  'tty-open': (machine, { path }: TtyAddress, ownPid) => checkTty(machine, { path, isOurs: ownPid !== null }),
  'pipe-open': (machine, path: string, ownPid) => checkPipe(machine, { path, isOurs: ownPid !== null }),
  exec: (machine, command: string) => checkCommand(machine, { command }),
  libvirt: (machine, { domain, port, uri }: LibvirtAddress, ownPid) =>
    checkLibvirt(machine, { domain, port, uri, ownPid }),
  'vsock-mux-connect': (machine, { path }: VsockMuxAddress) =>
    checkUnixSocket(machine, { path, isExclusive: false, ownPid: null }),
  'vsock-mux-listen': (machine, path: string, ownPid) => checkUnixListen(machine, { path, isOurs: ownPid !== null }),
  'vsock-connect': (machine, { cid }: VsockAddress) => checkVsock(machine, { cid }),
  'vsock-listen': (machine) => checkVsock(machine, { cid: null }),
};

/** What the check of its kind finds about a channel; null where there is no such check. */
export async function checkChannel(
  machine: Machine,
  { kindName, address }: ChannelAddress,
  ownPid: number | null,
): Promise<Finding[] | null> {
  const check = CHANNEL_CHECKS[kindName];
  // The tables of kinds and of checks go together.
  return check === undefined ? null : check(machine, address as never, ownPid);
}
