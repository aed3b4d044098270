/** A channel: what it leads to, by its kind, and whether its options are accepted. */
import { type ChannelAddress, parseChannel } from '../../../lib/channel/address/address.js';
import type { LibvirtAddress } from '../../../lib/channel/libvirt.js';
import type { TtyAddress } from '../../../lib/channel/tty-open.js';
import type { VsockAddress } from '../../../lib/channel/vsock.js';
import type { VsockMuxAddress } from '../../../lib/channel/vsock-mux.js';
import { findRefusal } from '../../../lib/proxy/check-options.js';
import { isGroup } from '../../../lib/proxy/group-pattern.js';
import type { Configuration } from '../../../lib/settings/configuration.js';
import type { HostPort } from '../../../lib/util/addresses.js';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../findings.js';
import { notChecked } from '../jobs.js';
import type { Machine } from '../machine.js';
import { heldBy, type RunningChannel } from '../running.js';
import { checkCommand } from './command.js';
import { checkLibvirt } from './libvirt.js';
import { checkTcpListen, checkUnixListen } from './listener.js';
import { checkPipe } from './pipe.js';
import { checkTty } from './serial-line.js';
import { checkTcpConnect } from './tcp-address.js';
import { checkGroup, checkUnixSocket } from './unix-socket.js';
import { checkVirtioPort } from './virtio-port.js';
import { checkVsock } from './vsock.js';

/** A channel of a configuration. */
export type Channel = Configuration['channels'][number];

/** What is wrong with a file or with arguments as a whole. */
export const describeProblems = (problems: readonly string[]): Finding[] =>
  problems.map((text) => finding('config-invalid', text));

/** What a proxy would refuse. Key files have checks of their own. */
export function checkOptions(channel: Channel): Finding[] {
  const refusal = findRefusal(channel);
  return refusal === null || refusal.code === 'bad-file' ? [] : [finding('channel-refused', refusal.message)];
}

/** What a channel that is asked for leads to, and which running vproxy has it already. */
export async function checkAskedChannel(machine: Machine, address: string): Promise<Finding[]> {
  const owner = await machine.runningChannel(address);
  const held = owner === null ? [] : [heldBy(owner.vproxy, `has it, as its channel ${owner.channel.label}`)];
  if (isGroup({ address })) return [...held, ...(await checkGroup(machine, { address, ownPid: ownPidOf(owner) }))];
  const found = await checkChannel(machine, parseChannel(address), ownPidOf(owner));
  return [...held, ...(found ?? notChecked(`${escapeText(address)}: nothing of it can be looked at beforehand`))];
}

const ownPidOf = (owner: RunningChannel | null): number | null => owner?.vproxy.status.process.pid ?? null;

/** What the check of its kind finds about a channel; null for a kind without a check. */
export async function checkChannel(
  machine: Machine,
  { kindName, address }: ChannelAddress,
  ownPid: number | null,
): Promise<Finding[] | null> {
  const check = CHANNEL_CHECKS[kindName];
  // The tables of kinds and of checks go together.
  return check === undefined ? null : check(machine, address as never, ownPid);
}

/** How a channel is looked at. `ownPid`: the running vproxy that has it, so nothing is connected or opened; null where none has it. */
type ChannelCheck = (machine: Machine, address: never, ownPid: number | null) => Promise<Finding[]> | Finding[];

/** By the name of the kind, as in lib/channel/kinds.ts. A kind without a row is `not-checked`. */
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
