/** Numbers of the system as errors that the rest of vproxy understands. */
import { getSystemErrorName } from 'node:util';

/** The error of `number` (positive, as in errno) in `call`, with a `code` as Node's own errors have it. */
export function systemError(call: string, number: number): NodeJS.ErrnoException {
  const code = getSystemErrorName(-number);
  return Object.assign(new Error(`${call}: ${code}`), { code, errno: -number, syscall: call });
}
