/** The text of an AF_VSOCK address: `CID:PORT`, and `PORT` to listen on. */
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import { MAX_VSOCK_PORT, parseVsockPort } from '../util/hybrid-vsock.js';

/** A machine by its context id (2: the host, 1: this machine itself), and a port. */
export interface VsockAddress {
  readonly cid: number;
  readonly port: number;
}

/** VMADDR_CID_ANY: every address of this machine. */
export const ANY_CID = 0xffffffff;

/** The address of `CID:PORT`. Throws `bad-argument`. */
export function parseVsockAddress(text: string): VsockAddress {
  const [, cidText = '', portText = ''] = /^(\d+):(\d+)$/.exec(text) ?? [];
  const [cid, port] = [parseVsockPort(cidText), parseVsockPort(portText)];
  if (cid === null || cid === ANY_CID || port === null || port === MAX_VSOCK_PORT) {
    throw bad(text, 'CID:PORT, such as 2:1234 for the host, 3:1234 for a guest');
  }
  return { cid, port };
}

/** The port of a text. Throws `bad-argument`. */
export function parseListenPort(text: string): number {
  const port = parseVsockPort(text);
  if (port === null || port === MAX_VSOCK_PORT) throw bad(text, `a port from 0 to ${MAX_VSOCK_PORT - 1}`);
  return port;
}

function bad(text: string, expected: string): VproxyError {
  return new VproxyError('bad-argument', `"${escapeText(text)}" is not ${expected}`);
}
