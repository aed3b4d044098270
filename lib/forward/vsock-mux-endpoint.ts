/** `vsock-mux:/path:PORT` dials hybrid vsock; `*:vsock-mux:/path` offers it, with services in the place of ports. */
import net from 'node:net';
import { SERVICE_NAME } from '../codec/limits.js';
import { VproxyError } from '../errors.js';
import { joinWithCommas, parseKeyValues, requireKnown, splitAtCommas } from '../util/comma-list.js';
import { escapeText } from '../util/escape.js';
import { askHybridVsock, LINE_TIMEOUT_MS, MAX_VSOCK_PORT, parseVsockPort } from '../util/hybrid-vsock.js';
import {
  ACCESS_OPTIONS,
  formatSocketAccess,
  parseSocketAccess,
  resolveSocketAccess,
  type SocketAccess,
} from '../util/socket-access.js';
import { formatPath } from '../util/unix-path.js';
import type { EndpointKind } from './endpoint-kind.js';
import { SocketTarget } from './socket-target.js';
import { parseUnixPath } from './unix-path-text.js';
import { vsockMuxEntrance } from './vsock-mux-entrance.js';

export interface VsockMuxEndpoint {
  readonly kind: 'vsock-mux';
  readonly path: string;
  /** The port to ask for; only of a target. */
  readonly port?: number;
  /** Which service a port means; only of a listener. */
  readonly services?: Readonly<Record<number, string>>;
  readonly access?: SocketAccess;
}

/** The kind `vsock-mux`. */
export const vsockMuxEndpoint: EndpointKind<VsockMuxEndpoint> = {
  form: {
    outgoing: 'vsock-mux:/path[,PORT=SERVICE…][,mode=0660][,user=NAME][,group=NAME]',
    incoming: 'vsock-mux:/path:PORT',
  },
  namesService: true,
  parse(text, direction) {
    const [address = '', ...options] = splitAtCommas(text);
    const values = parseKeyValues(options);
    return direction === 'incoming' ? parseTarget(address, values) : parseListener(address, values);
  },
  format({ path, port, services = {}, access = {} }) {
    if (port !== undefined) return joinWithCommas([`${formatPath(path)}:${port}`]);
    const ports = Object.entries(services).map(([number, service]) => `${number}=${service}`);
    return joinWithCommas([formatPath(path), ...ports, ...formatSocketAccess(access)]);
  },
  createTarget({ path, port = 0 }, context) {
    const dial = { path, allowHalfOpen: true };
    return new SocketTarget(
      (onread, { answered, refused }) =>
        askHybridVsock(
          port,
          (lineOnread) => net.connect({ ...dial, onread: lineOnread } as net.NetConnectOpts),
          ({ isOk, isClose, problem }, line) => {
            if (!isOk) {
              refused(isClose ? 'connect-refused' : 'connect-failed', problem);
              return false;
            }
            answered();
            return line.handOver(onread);
          },
        ),
      context,
      { timeoutMs: LINE_TIMEOUT_MS, takesPreamble: false },
    );
  },
  createEntrance({ path, services = {}, access }, context) {
    return vsockMuxEntrance({ path, access: resolveSocketAccess(access) }, services, context);
  },
};

function parseTarget(text: string, values: ReadonlyMap<string, string>): VsockMuxEndpoint {
  requireKnown(values, []);
  const [, path = '', digits = ''] = /^(.*):(\d+)$/s.exec(text) ?? [];
  const port = parseVsockPort(digits);
  if (port === null) throw bad(`there is no port from 0 to ${MAX_VSOCK_PORT} behind the path`);
  return { kind: 'vsock-mux', path: parseUnixPath(path), port };
}

function parseListener(text: string, values: ReadonlyMap<string, string>): VsockMuxEndpoint {
  const ports = [...values].filter(([key]) => /^\d+$/.test(key));
  requireKnown(new Map([...values].filter(([key]) => !/^\d+$/.test(key))), ['PORT', ...ACCESS_OPTIONS]);
  const services = Object.fromEntries(ports.map(([key, value]) => parsePortService(`${key}=${value}`)));
  const access = parseSocketAccess(values);
  return {
    kind: 'vsock-mux',
    path: parseUnixPath(text),
    ...(ports.length === 0 ? {} : { services }),
    ...(access === null ? {} : { access }),
  };
}

/** The port and the service of `PORT=SERVICE`. Throws `bad-argument`. */
export function parsePortService(text: string): readonly [port: number, service: string] {
  const [, digits = '', service = ''] = /^(\d+)=(.*)$/s.exec(text) ?? [];
  const port = parseVsockPort(digits);
  if (port !== null && SERVICE_NAME.test(service)) return [port, service];
  throw bad(`"${escapeText(text, 100)}" is not PORT=SERVICE, such as 1234=ssh`);
}

function bad(what: string): VproxyError {
  return new VproxyError('bad-argument', what);
}
