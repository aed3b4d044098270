/** `unix-listen:PATH`: a unix socket that this side makes, for QEMU with `reconnect=N` or another vproxy. */
import { escapeText } from '../util/escape.js';
import { formatPath, parseSocketPath } from '../util/unix-path.js';
import type { ListenKind } from './kind.js';
import { listenForLinks } from './listen-socket.js';
import { VM_TRAITS } from './traits.js';

/** The kind `unix-listen`; its address is a path. The socket file has the mode 0600. */
export const unixListen: ListenKind<string> = {
  mode: 'listen',
  traits: VM_TRAITS,
  parse: parseSocketPath,
  format: formatPath,
  isPrivate: () => true,
  listen(path, handlers) {
    return listenForLinks({ path }, () => `unix-listen:${escapeText(path)}`, handlers);
  },
};
