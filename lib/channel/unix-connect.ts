/** `unix-connect:PATH`: a unix socket that somebody else listens on, such as QEMU with `server=on`. */
import fs from 'node:fs/promises';
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import { formatPath, parseSocketPath } from '../util/unix-path.js';
import { channelError } from './channel-error.js';
import { dialSocket } from './dial-socket.js';
import type { DialKind } from './kind.js';
import { VM_TRAITS } from './traits.js';

/** The kind `unix-connect`; its address is a path. */
export const unixConnect: DialKind<string> = {
  mode: 'dial',
  traits: VM_TRAITS,
  parse: parseSocketPath,
  format: formatPath,
  async dial(path, { signal }) {
    const description = `unix-connect:${escapeText(path)}`;
    const found = await fs.stat(path).catch((error: unknown) => {
      throw channelError(description, error);
    });
    // For what is no socket connecting reports "refused" too, which sounds as if waiting could help.
    if (!found.isSocket()) throw new VproxyError('channel-unusable', `${description}: it is not a socket`);
    return dialSocket(description, { path }, signal);
  },
};
