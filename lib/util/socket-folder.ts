/** The folder of a unix socket that is to be listened on. */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { systemCode, VproxyError } from '../errors.js';
import { describeError } from './describe-error.js';
import { escapeText } from './escape.js';

/**
 * Makes the folder of a socket, and those above it, with mode 0700 where they are missing. True when the folder itself
 * was. Throws `address-denied` or `address-unavailable`.
 */
export function makeSocketFolder(path: string): boolean {
  try {
    return mkdirSync(dirname(path), { recursive: true, mode: 0o700 }) !== undefined;
  } catch (cause) {
    const isDenied = systemCode(cause) === 'EACCES' || systemCode(cause) === 'EPERM';
    const code = isDenied ? 'address-denied' : 'address-unavailable';
    const message = `cannot listen on ${escapeText(path)}: its folder cannot be made: ${describeError(cause)}`;
    throw new VproxyError(code, message, { cause });
  }
}
