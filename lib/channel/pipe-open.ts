/**
 * `pipe-open:PATH`: the host's side of QEMU's pipe chardev, which is two FIFOs: what the guest sends comes out of
 * `PATH.out`, and what goes into `PATH.in` is for the guest.
 */
import { closeSync, constants, openSync, statSync } from 'node:fs';
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import { formatPath, parsePath } from '../util/unix-path.js';
import { channelError, requireWanted } from './channel-error.js';
import { openHalves } from './descriptor-halves.js';
import type { DialKind } from './kind.js';
import type { Link } from './link.js';
import { SocketLink } from './socket-link.js';
import { VM_TRAITS } from './traits.js';

/** The kind `pipe-open`; its address is the path without `.in` and `.out`. */
export const pipeOpen: DialKind<string> = {
  mode: 'dial',
  traits: { ...VM_TRAITS, outlivesRestart: true },
  parse: parsePath,
  format: formatPath,
  async dial(path, { signal }) {
    const description = `pipe-open:${escapeText(path)}`;
    requireWanted(signal, description);
    return Promise.resolve(openFifos(path, description));
  },
};

function openFifos(path: string, description: string): Link {
  const opened: number[] = [];
  try {
    for (const file of [`${path}.out`, `${path}.in`]) opened.push(openFifo(file));
    const [outFd = -1, inFd = -1] = opened;
    // A FIFO that this side has open both ways never ends, so there is no end to wait for.
    return new SocketLink(description, (onread) => openHalves(outFd, inFd, onread), { waitsForEnd: false });
  } catch (error) {
    for (const fd of opened) closeSync(fd);
    throw channelError(description, error);
  }
}

/** Open both ways, opening waits for nobody, and the FIFO keeps what is in it while QEMU is away. */
function openFifo(file: string): number {
  if (!statSync(file).isFIFO()) {
    throw new VproxyError('channel-unusable', `pipe-open: ${escapeText(file)} is not a FIFO; see vproxy pipe-create`);
  }
  return openSync(file, constants.O_RDWR | constants.O_NONBLOCK);
}
