/** The local end of a forward: what `-o` listens on, what `-i` leads to. */
import { constants } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { ForwardSpec } from '../../../lib/forward/spec.js';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../findings.js';
import { notChecked } from '../jobs.js';
import type { Machine } from '../machine.js';
import { describeKind, folderDenied, formatAccess, isAllowed, lookAtPath } from '../path.js';
import { checkCommand } from './command.js';
import { checkTcpListen, checkUnixListen } from './listener.js';
import { checkTcpConnect } from './tcp-address.js';
import { checkUnixSocket } from './unix-socket.js';

/** Whether the address is free, or the target answers. */
export async function checkForward(
  machine: Machine,
  { direction, endpoint }: Pick<ForwardSpec, 'direction' | 'endpoint'>,
): Promise<Finding[]> {
  return direction === 'outgoing' ? checkListener(machine, endpoint) : checkTarget(machine, endpoint);
}

type Endpoint = ForwardSpec['endpoint'];

async function checkListener(machine: Machine, endpoint: Endpoint): Promise<Finding[]> {
  switch (endpoint.kind) {
    case 'tcp':
      return checkTcpListen(machine, { address: endpoint, isOurs: false });
    case 'unix':
    case 'vsock-mux':
      return checkUnixListen(machine, { path: endpoint.path, isOurs: false });
    default:
      return unknownKind(endpoint);
  }
}

async function checkTarget(machine: Machine, endpoint: Endpoint): Promise<Finding[]> {
  switch (endpoint.kind) {
    case 'tcp':
      return checkTcpConnect(machine, { address: endpoint, isExclusive: false, isOurs: false });
    case 'unix':
    case 'vsock-mux':
      return checkUnixSocket(machine, { path: endpoint.path, isExclusive: false, ownPid: null });
    case 'exec':
      return checkCommand(machine, endpoint);
    case 'file':
      return checkFile(machine, endpoint.path);
    default:
      return unknownKind(endpoint);
  }
}

const unknownKind = ({ kind }: Endpoint): Finding[] =>
  notChecked(`nothing is known about endpoints of the kind ${kind}`);

/** A file to which lines are appended; it is made where it is not there. */
async function checkFile(machine: Machine, path: string): Promise<Finding[]> {
  const look = await lookAtPath(machine, path);
  if (look.problem !== null) return [look.problem];
  const shown = escapeText(path);
  const folder = dirname(resolve(path));
  if (!isAllowed(folder, constants.W_OK | constants.X_OK)) {
    return [folderDenied(`this user can make no file in ${escapeText(folder)}`)];
  }
  if (look.stats === null) return [finding('file-writable', `${shown} can be made`)];
  if (!look.stats.isFile()) return [finding('file-not', `${shown} is ${describeKind(look.stats)}`)];
  if (isAllowed(path, constants.W_OK)) return [finding('file-writable', `${shown} can be written`)];
  return [finding('file-denied', `this user cannot write ${shown} (${formatAccess(look.stats)})`)];
}
