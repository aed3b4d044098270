/** The local end of a forward: the listener of `-o`, the target of `-i`. */
import { constants } from 'node:fs';
import type { ChannelLocation } from '../../../lib/channel/kind.js';
import type { ForwardSpec } from '../../../lib/forward/spec.js';
import { isLoopback } from '../../../lib/util/addresses/host-port.js';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../findings.js';
import { notChecked } from '../jobs.js';
import { checkLocation } from '../locations/location.js';
import type { Machine } from '../machine.js';
import { describeKind, formatAccess, isAllowed, lookForNew } from '../path.js';

type Forward = Pick<ForwardSpec, 'direction' | 'service' | 'endpoint'>;

/** Where systemd 256 and newer has sshd listen, with or without a TCP port. */
const SSH_SOCKET = '/run/ssh-unix-local/socket';

const SSH_PORT = 22;

/** Checks whether the address is free, or the target answers. */
export async function checkForward(machine: Machine, forward: Forward): Promise<Finding[]> {
  const { direction, endpoint } = forward;
  if (direction === 'incoming' && endpoint.kind === 'file') return checkFile(machine, endpoint.path);
  const location = locate(forward);
  if (location === null) return notChecked(`endpoints of kind ${endpoint.kind} cannot be checked`);
  const found = await checkLocation(machine, location, null);
  const isRefused = found.some(({ id }) => id === 'channel-refused');
  const ssh = isRefused ? await suggestSshSocket(machine, forward) : [];
  return [...found.map((one) => ({ ...one, id: codeAtTarget(one.id) })), ...ssh];
}

/** The code with which a connection to a target fails, where a channel there would fail with `id`. */
function codeAtTarget(id: Finding['id']): Finding['id'] {
  if (id === 'channel-refused' || id === 'channel-missing') return 'connect-refused';
  return id.startsWith('channel-') ? 'connect-failed' : id;
}

/** A finding if the target should be this machine's sshd, and that listens on systemd's socket. */
async function suggestSshSocket(machine: Machine, { direction, service, endpoint }: Forward): Promise<Finding[]> {
  if (direction !== 'incoming' || endpoint.kind !== 'tcp' || !isLoopback(endpoint.host)) return [];
  if (service !== 'ssh' && endpoint.port !== SSH_PORT) return [];
  const isListed = (await machine.sockets()).some(({ state, path }) => state === 'listening' && path === SSH_SOCKET);
  if (!isListed) return [];
  return [finding('ssh-socket', `systemd's sshd listens at ${SSH_SOCKET}`, { SERVICE: service })];
}

function locate({ direction, endpoint }: Forward): ChannelLocation | null {
  const listens = direction === 'outgoing';
  switch (endpoint.kind) {
    case 'tcp':
    case 'redirect':
      return listens
        ? { is: 'tcp-listener', address: endpoint }
        : { is: 'tcp-port', address: endpoint, servesOne: false };
    case 'unix':
    case 'vsock-mux':
      return listens
        ? { is: 'unix-listener', path: endpoint.path }
        : { is: 'unix-socket', path: endpoint.path, servesOne: false };
    case 'exec':
      return { is: 'command', command: endpoint.command };
    default:
      return null;
  }
}

/** Checks a file to append lines to, which vproxy creates if it does not exist. */
async function checkFile(machine: Machine, path: string): Promise<Finding[]> {
  const { problem, stats } = await lookForNew(machine, path, 'file');
  if (problem !== null) return [problem];
  const shown = escapeText(path);
  if (stats === null) return [finding('file-writable', `${shown} can be created`)];
  if (!stats.isFile()) return [finding('file-not', `${shown} is ${describeKind(stats)}`)];
  if (isAllowed(path, constants.W_OK)) return [finding('file-writable', `${shown} can be written`)];
  return [finding('file-denied', `this user cannot write ${shown} (${formatAccess(stats)})`)];
}
