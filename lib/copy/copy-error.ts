/** What a copy fails with where the system refuses something. */
import { systemCode, toVproxyError, VproxyError } from '../errors.js';
import { describeError } from '../util/describe-error.js';
import { escapeText } from '../util/escape.js';

/** A path, for a message. */
export const showPath = (path: string): string => escapeText(path, 4096);

/** `copy-failed` with the path and what the system says; a VproxyError as it is. */
export function copyError(path: string, error: unknown): VproxyError {
  if (error instanceof VproxyError) return error;
  if (systemCode(error) === '') return toVproxyError(error);
  // "EACCES: permission denied, open '/x'": the path that is meant is named here.
  const [, text = describeError(error)] = /^[A-Z0-9]+: ([^,]+)/.exec(describeError(error)) ?? [];
  return new VproxyError('copy-failed', `${showPath(path)}: ${text}`, { cause: error });
}

/** `copy-refused`, with the path. */
export const refused = (path: string, why: string): VproxyError =>
  new VproxyError('copy-refused', `${showPath(path)}: ${why}`);
