/** What an error of the system means for somebody who opens a channel. */
import { type ErrorCode, systemCode, VproxyError } from '../errors.js';
import { describeError } from '../util/describe-error.js';

/** The failure of opening `description`: `channel-missing`, `-busy`, `-refused`, `-denied`, `-unusable` or `-failed`. */
export function channelError(description: string, error: unknown): VproxyError {
  if (error instanceof VproxyError) return error;
  const [code, hint] = MEANINGS[systemCode(error)] ?? ['channel-failed', ''];
  return new VproxyError(code, `${description}: ${describeError(error)}${hint === '' ? '' : ` (${hint})`}`, {
    cause: error,
  });
}

/** The failure of an opening that its caller gave up. */
export function openingCancelled(description: string): VproxyError {
  return new VproxyError('shutdown', `${description}: opening it was given up`);
}

/** Throws `shutdown` where the caller of an opening gave it up. */
export function requireWanted(signal: AbortSignal, description: string): void {
  if (signal.aborted) throw openingCancelled(description);
}

const MEANINGS: Readonly<Record<string, readonly [ErrorCode, string]>> = {
  ENOENT: ['channel-missing', ''],
  ENODEV: ['channel-missing', 'the device is gone'],
  ENOTFOUND: ['channel-missing', 'no machine has that name'],
  EBUSY: ['channel-busy', 'another process has it open'],
  EMFILE: ['channel-failed', ''],
  EAGAIN: ['channel-busy', 'too many wait to be accepted there'],
  ECONNREFUSED: ['channel-refused', 'nobody listens there'],
  EACCES: ['channel-denied', ''],
  EPERM: ['channel-denied', ''],
  ENXIO: ['channel-unusable', 'a console port, or no device behind it; give the VM a virtserialport'],
  EISDIR: ['channel-unusable', 'it is a directory'],
  ENOTDIR: ['channel-unusable', ''],
  ELOOP: ['channel-unusable', ''],
  ENAMETOOLONG: ['channel-unusable', ''],
};
