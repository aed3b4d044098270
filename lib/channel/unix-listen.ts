/** `unix-listen:PATH`: a unix socket that this side makes, for QEMU with `reconnect=N` or another vproxy. */
import { escapeText } from '../util/escape.js';
import { formatPath, parseSocketPath } from '../util/unix-path.js';
import type { ListenKind } from './kind.js';
import { listenForLinks } from './listen-socket.js';
import { VM_TRAITS } from './traits.js';

/** A kind called `name` whose address is the path of a unix socket to make. The socket file has the mode 0600. */
export function unixListenKind(name: string): ListenKind<string> {
  return {
    mode: 'listen',
    traits: VM_TRAITS,
    parse: parseSocketPath,
    format: formatPath,
    isPrivate: () => true,
    listen(path, handlers) {
      return listenForLinks({ path }, () => `${name}:${escapeText(path)}`, handlers);
    },
  };
}

/** The kind `unix-listen`. */
export const unixListen = unixListenKind('unix-listen');
