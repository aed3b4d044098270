/** The meaning of system error codes: human-readable words, and the vproxy error codes (lib/errors.ts) they map to. */
import type { ErrorCode } from './errors.js';
import type { Subject } from './remedies.js';

interface Meaning {
  /** Replaces the system's own words where these say less, or nothing that a user would say. */
  readonly words?: string;
  /** For a channel; with the text after its description, in place of the system's own unless empty; the remedy follows. */
  readonly channel?: readonly [ErrorCode, text: string, remedyOf?: Subject];
  /** For the opener of a stream, when connecting to a target; default: `connect-failed`. */
  readonly connect?: ErrorCode;
  /** When listening on an address; default: `address-unavailable`. */
  readonly listen?: ErrorCode;
}

const MEANINGS: Readonly<Record<string, Meaning>> = {
  EACCES: { channel: ['channel-denied', ''], listen: 'address-denied' },
  EADDRINUSE: { listen: 'address-in-use' },
  EADDRNOTAVAIL: { words: 'not an address of this machine' },
  EAGAIN: { channel: ['channel-busy', ': its accept backlog is full'] },
  EAI_AGAIN: { words: 'no name server answered' },
  EBUSY: { channel: ['channel-busy', ': another process has it open'] },
  ECONNREFUSED: { channel: ['channel-refused', ': connection refused'], connect: 'connect-refused' },
  ECONNRESET: { words: 'connection reset' },
  EISDIR: { words: 'is a directory', channel: ['channel-unusable', ': is a directory'] },
  ELOOP: { channel: ['channel-unusable', ''] },
  ENAMETOOLONG: { channel: ['channel-unusable', ''] },
  ENODEV: { channel: ['channel-missing', ': the device was removed'] },
  // A missing socket file means a server that is not running.
  ENOENT: { channel: ['channel-missing', ' is missing'], connect: 'connect-refused' },
  ENOTDIR: { channel: ['channel-unusable', ''] },
  ENOTFOUND: { words: 'name not found', channel: ['channel-missing', ': name not found'] },
  ENXIO: {
    channel: ['channel-unusable', ': a console port, or a port without a device', 'virtio-port'],
  },
  EPERM: { channel: ['channel-denied', ''], listen: 'address-denied' },
  EPROTOTYPE: { channel: ['channel-unusable', ': not a stream socket', 'unix-socket'] },
  ETIMEDOUT: { words: 'timed out', connect: 'connect-timeout' },
};

/** The meaning of a system error code; empty if it is not in the table. */
export const meaningOf = (code: string): Meaning => (Object.hasOwn(MEANINGS, code) ? MEANINGS[code] : undefined) ?? {};
