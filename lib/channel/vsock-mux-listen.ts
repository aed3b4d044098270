/** `vsock-mux-listen:PATH_PORT`: where Firecracker and cloud-hypervisor connect for a guest that dials the host's port. */
import { escapeText } from '../util/escape.js';
import { formatPath, parseSocketPath } from '../util/unix-path.js';
import type { ListenKind } from './kind.js';
import { listenForLinks } from './listen-socket.js';
import { VM_TRAITS } from './traits.js';

/** The kind `vsock-mux-listen`; its address is the VMM's path with `_PORT` behind it. The socket has the mode 0600. */
export const vsockMuxListen: ListenKind<string> = {
  mode: 'listen',
  traits: VM_TRAITS,
  parse: parseSocketPath,
  format: formatPath,
  isPrivate: () => true,
  listen(path, handlers) {
    return listenForLinks({ path }, () => `vsock-mux-listen:${escapeText(path)}`, handlers);
  },
};
