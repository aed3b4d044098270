/** The local end of a forward: what `-o` listens on, what `-i` leads to. */
import { constants } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { ForwardSpec } from '../../../lib/forward/spec.js';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../finding.js';
import { formatAccess, isAllowed, lookAtPath } from '../look-at-path.js';
import type { Machine } from '../machine.js';
import { checkCommand } from './command.js';
import { checkTcpConnect } from './tcp-connect.js';
import { checkTcpListen } from './tcp-listen.js';
import { checkUnixSocket, describeKind } from './unix-connect.js';
import { checkUnixListen } from './unix-listen.js';

/** A forward. `isOurs`: a vproxy that runs has it, and so listens where it says. */
export interface ForwardSubject {
  readonly forward: Pick<ForwardSpec, 'direction' | 'endpoint'>;
  readonly isOurs: boolean;
}

/** Whether the address can be had, or the target answers. */
export async function checkForward(machine: Machine, { forward, isOurs }: ForwardSubject): Promise<Finding[]> {
  return forward.direction === 'outgoing'
    ? checkListener(machine, forward.endpoint, isOurs)
    : checkTarget(machine, forward.endpoint);
}

type Endpoint = ForwardSpec['endpoint'];

async function checkListener(machine: Machine, endpoint: Endpoint, isOurs: boolean): Promise<Finding[]> {
  if (endpoint.kind === 'tcp') return checkTcpListen(machine, { address: endpoint, isOurs });
  if (endpoint.kind === 'unix' || endpoint.kind === 'vsock-mux')
    return checkUnixListen(machine, { path: endpoint.path, isOurs });
  return notChecked(endpoint);
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
      return notChecked(endpoint);
  }
}

const notChecked = ({ kind }: { readonly kind: string }): Finding[] => [
  finding('not-checked', `nothing is known about endpoints of the kind ${kind}`),
];

/** A file to which lines are appended; it is made where it is not there. */
async function checkFile(machine: Machine, path: string): Promise<Finding[]> {
  const look = await lookAtPath(machine, path);
  if (look.problem !== null) return [look.problem];
  const shown = escapeText(path);
  const folder = dirname(resolve(path));
  if (!isAllowed(folder, constants.W_OK | constants.X_OK)) {
    return [finding('folder-denied', `this user can make no file in ${escapeText(folder)}`)];
  }
  if (look.stats === null) return [finding('file-writable', `${shown} can be made`)];
  if (!look.stats.isFile()) return [finding('file-not', `${shown} is ${describeKind(look.stats)}`)];
  if (isAllowed(path, constants.W_OK)) return [finding('file-writable', `${shown} can be written`)];
  return [finding('file-denied', `this user cannot write ${shown} (${formatAccess(look.stats)})`)];
}
