/** `stdio:`: this process's own standard input and output, such as those that ssh or socat gave it. */
import { VproxyError } from '../errors.js';
import { openHalves } from '../link/device-link.js';
import { type Link, requireWanted } from '../link/link.js';
import { SocketLink } from '../link/socket-link.js';
import { describeError } from '../util/escape.js';
import { closeWith, endsForGood, inspectDescriptor, TakenDescriptors } from './inherited.js';
import { type DialKind, VM_TRAITS } from './kind.js';

/** The kind `stdio`, over other descriptors than 0 and 1 where they are given. */
export function stdioKind(inputFd = 0, outputFd = 1): DialKind<string> {
  const descriptors = new TakenDescriptors();
  return {
    mode: 'dial',
    traits: VM_TRAITS,
    parse(text) {
      if (text !== '') throw new VproxyError('bad-argument', 'nothing stands behind the colon but options');
      return text;
    },
    format: (text) => text,
    async dial(_address, { signal }) {
      requireWanted(signal, DESCRIPTION);
      descriptors.take([inputFd, outputFd], DESCRIPTION);
      requireStream(inputFd, 'standard input');
      requireStream(outputFd, 'standard output');
      return Promise.resolve(openLink(inputFd, outputFd));
    },
  };
}

/** The kind `stdio`. */
export const stdio: DialKind<string> = stdioKind();

const DESCRIPTION = 'stdio:';

function requireStream(fd: number, name: string): void {
  const found = inspectDescriptor(fd, DESCRIPTION);
  if (found.isFIFO() || found.isSocket()) return;
  const what = found.isCharacterDevice() ? 'a device, such as a terminal' : 'a file';
  throw new VproxyError('channel-unusable', `${DESCRIPTION} ${name} is ${what}; it should be a pipe or a socket`);
}

function openLink(inputFd: number, outputFd: number): Link {
  try {
    const link = new SocketLink(DESCRIPTION, (onread) => {
      const halves = openHalves(inputFd, outputFd, onread);
      closeWith(halves.input, inputFd);
      closeWith(halves.output, outputFd);
      return halves;
    });
    return endsForGood(link);
  } catch (error) {
    throw new VproxyError('channel-unusable', `${DESCRIPTION} ${describeError(error)}`, { cause: error });
  }
}
