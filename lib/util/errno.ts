/** What each code of the system means to vproxy, in one row: the words for people, and the codes of lib/errors.ts that it becomes. */
import type { ErrorCode } from '../errors.js';

interface Meaning {
  /** Where the system's own words say less, or nothing that a person would say. */
  readonly words?: string;
  /** At a channel; with what is said behind its description, in the place of the system's own text where that is not empty. */
  readonly channel?: readonly [ErrorCode, string];
  /** For the opener of a stream, where a target is connected to; default: `connect-failed`. */
  readonly connect?: ErrorCode;
  /** Where an address is listened on; default: `address-unavailable`. */
  readonly listen?: ErrorCode;
}

const MEANINGS: Readonly<Record<string, Meaning>> = {
  EACCES: { channel: ['channel-denied', ''], listen: 'address-denied' },
  EADDRINUSE: { words: 'the address is taken', listen: 'address-in-use' },
  EADDRNOTAVAIL: { words: 'the address is not one of this machine' },
  EAGAIN: { channel: ['channel-busy', ': too many wait to be accepted there'] },
  EAI_AGAIN: { words: 'no name server answered' },
  EBUSY: { channel: ['channel-busy', ': another process has it open'] },
  ECONNREFUSED: {
    words: 'nobody listens there',
    channel: ['channel-refused', ': nobody listens there'],
    connect: 'connect-refused',
  },
  ECONNRESET: { words: 'the other end broke the connection off' },
  EISDIR: { words: 'it is a folder', channel: ['channel-unusable', ': it is a directory'] },
  ELOOP: { channel: ['channel-unusable', ''] },
  ENAMETOOLONG: { channel: ['channel-unusable', ''] },
  ENODEV: { channel: ['channel-missing', ': the device is gone'] },
  // A missing socket file is a server that is not there.
  ENOENT: {
    words: 'there is no such file or folder',
    channel: ['channel-missing', ' is missing'],
    connect: 'connect-refused',
  },
  ENOTDIR: { words: 'a part of the path is no folder', channel: ['channel-unusable', ''] },
  ENOTFOUND: { words: 'no machine has that name', channel: ['channel-missing', ': no machine has that name'] },
  ENXIO: {
    channel: ['channel-unusable', ': a console port, or no device behind it; give the VM a virtserialport'],
  },
  EPERM: { channel: ['channel-denied', ''], listen: 'address-denied' },
  ETIMEDOUT: { words: 'no answer came in time', connect: 'connect-timeout' },
};

/** What a code of the system means; nothing for one that is not in the table. */
export const meaningOf = (code: string): Meaning => (Object.hasOwn(MEANINGS, code) ? MEANINGS[code] : undefined) ?? {};
