/** Checks what a channel or a forward leads to on this machine, by its type. */
import type { ChannelLocation } from '../../../lib/channel/kind.js';
import type { Finding } from '../findings.js';
import type { Machine } from '../machine.js';
import { checkCommand } from './command.js';
import { checkLibvirt } from './libvirt.js';
import { checkTcpListen, checkUnixListen } from './listener.js';
import { checkPipe } from './pipe.js';
import { checkTty } from './serial-line.js';
import { checkTcpConnect } from './tcp-address.js';
import { checkUnixSocket } from './unix-socket.js';
import { checkVirtioPort } from './virtio-port.js';
import { checkVsock } from './vsock.js';

/** `ownPid`: the running vproxy that has it, so nothing is connected or opened; null if none has it. */
export async function checkLocation(
  machine: Machine,
  location: ChannelLocation,
  ownPid: number | null,
): Promise<Finding[]> {
  const isOurs = ownPid !== null;
  switch (location.is) {
    case 'unix-socket':
      return checkUnixSocket(machine, location, ownPid);
    case 'unix-listener':
      return isOurs ? [] : checkUnixListen(machine, location.path);
    case 'tcp-port':
      return checkTcpConnect(machine, location, isOurs);
    case 'tcp-listener':
      return isOurs ? [] : checkTcpListen(machine, location.address);
    case 'virtio-port':
      return checkVirtioPort(machine, location.name, isOurs);
    case 'serial-line':
      return checkTty(machine, location.path, isOurs);
    case 'fifos':
      return checkPipe(machine, location.path, isOurs);
    case 'command':
      return checkCommand(machine, location.command);
    case 'vsock':
      return checkVsock(machine, location.cid);
    case 'domain-port': {
      const { found, place } = await checkLibvirt(machine, location);
      return place === null ? found : [...found, ...(await checkLocation(machine, place, ownPid))];
    }
  }
}
