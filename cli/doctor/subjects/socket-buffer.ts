/** The buffer of unix sockets: whether the system grants the requested size. */
import { DEFAULT_BUFFER_BYTES } from '../../../lib/system/sockets/socket-buffer.js';
import { type Finding, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import type { Channel } from './channel.js';

/** Locations whose links are unix sockets, or may be. */
const SOCKETS: readonly (string | undefined)[] = ['unix-socket', 'unix-listener', 'command', 'domain-port'];

/** The largest buffer that a channel and its forwards request, in bytes; null if none of them is a unix socket. */
export function askedBuffer({ address, bufferBytes = DEFAULT_BUFFER_BYTES, forwards = [] }: Channel): number | null {
  const own = SOCKETS.includes(address.kind.locate?.(address.address).is) ? [bufferBytes] : [];
  const isUnix = forwards.some(({ endpoint: { kind } }) => kind === 'unix' || kind === 'vsock-mux');
  const others = isUnix ? [DEFAULT_BUFFER_BYTES] : [];
  const asked = [...own, ...others];
  return asked.length === 0 ? null : Math.max(...asked);
}

/** Checks whether this user would be granted a buffer of `bytes`. */
export async function checkBuffer({ options }: Machine, { bytes }: { readonly bytes: number }): Promise<Finding[]> {
  if (!(await options.hasKoffi())) return [finding('buffer-no-koffi', 'koffi cannot be loaded')];
  const granted = await options.grantedBuffer(bytes);
  if (granted === null || granted >= bytes) return [];
  // The kernel doubles the requested size.
  const needed = Math.ceil(bytes / 2);
  const message = `buffer of a unix socket: the kernel grants ${granted} of ${bytes} bytes`;
  return [finding('buffer-bounded', message, { BYTES: String(needed) })];
}
