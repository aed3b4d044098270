/** `unix:/path` and `/path`: a unix socket, to listen on (with `mode=`, `user=`, `group=`) or to dial. */
import net from 'node:net';
import { joinWithCommas, parseKeyValues, requireKnown, splitAtCommas } from '../util/comma-list.js';
import {
  ACCESS_OPTIONS,
  formatSocketAccess,
  parseSocketAccess,
  resolveSocketAccess,
  type SocketAccess,
} from '../util/socket-access.js';
import { formatPath } from '../util/unix-path.js';
import type { EndpointKind } from './endpoint-kind.js';
import { socketEntrance } from './socket-entrance.js';
import { SocketTarget } from './socket-target.js';
import { parseUnixPath } from './unix-path-text.js';

export interface UnixEndpoint {
  readonly kind: 'unix';
  readonly path: string;
  /** Who may connect to a socket that is made; it is the owner's alone without it. */
  readonly access?: SocketAccess;
}

/** The kind `unix`. */
export const unixEndpoint: EndpointKind<UnixEndpoint> = {
  form: { outgoing: 'unix:/path[,mode=0660][,user=NAME][,group=NAME]', incoming: 'unix:/path' },
  recognizes: (text) => text.startsWith('/'),
  parse(text, direction) {
    const [path = '', ...options] = splitAtCommas(text);
    const values = parseKeyValues(options);
    requireKnown(values, direction === 'outgoing' ? ACCESS_OPTIONS : []);
    const access = parseSocketAccess(values);
    return { kind: 'unix', path: parseUnixPath(path), ...(access === null ? {} : { access }) };
  },
  format: ({ path, access = {} }) => joinWithCommas([formatPath(path), ...formatSocketAccess(access)]),
  createTarget({ path }, context) {
    // Node reads into the buffers of `onread`, which its types state for TCP only.
    const options = { path, allowHalfOpen: true, noDelay: true };
    return new SocketTarget(
      (onread, { answered }) => net.connect({ ...options, onread } as net.NetConnectOpts).once('connect', answered),
      context,
    );
  },
  createEntrance({ path, access }, context) {
    return socketEntrance({ path, access: resolveSocketAccess(access) }, true, context);
  },
};
