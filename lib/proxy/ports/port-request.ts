/** What a request to `--http-ports` asks for: the first part of its Host is a port, the rest the label of a channel. */
import { badArgument, VproxyError } from '../../errors.js';
import { BadMessage, endOfHead, HeadTooLarge, parseRequestHead, valuesOf } from '../../forward/egress/head.js';
import { escapeText } from '../../util/escape.js';

/** Limit on the head of a request, in bytes. */
const MAX_HEAD_BYTES = 16_384;

export interface PortRequest {
  readonly isHead: boolean;
  /** Whether the client shows HTML. */
  readonly wantsHtml: boolean;
  /** The port at the end of its Host, with the colon; empty if there is none. */
  readonly ownPort: string;
  /** Null: it asks what there is, on all channels. */
  readonly label: string | null;
  /** Null: it asks what there is. */
  readonly port: number | null;
}

/** Whether no more bytes are needed: the head at the start is whole, invalid or too long. `from`: how many were looked at before. */
export function isWhole(bytes: Buffer, from: number): boolean {
  try {
    return endOfHead(bytes, from) !== -1 || bytes.length > MAX_HEAD_BYTES;
  } catch {
    return true;
  }
}

/**
 * Reads the whole head at the start of `bytes`. Throws `bad-argument` if it is not one of HTTP/1.1 with one Host, and `denied` for
 * a Host outside `localhost`: any name can resolve to this machine, but nobody else can have a page there (RFC 6761, section 6.3).
 */
export function readRequest(bytes: Buffer): PortRequest {
  const { fields, method, target } = orBad(() => parseRequestHead(headOf(bytes)));
  if (!target.startsWith('/') && target !== '*')
    throw badArgument('the request is for a proxy: its target is not a path');
  const [host, ...others] = valuesOf(fields, 'host');
  if (host === undefined || others.length > 0) throw badArgument('the request does not have exactly one Host');
  const [, name = '', ownPort = ''] = /^(.*?)\.?(:\d{0,5})?$/.exec(host.toLowerCase()) ?? [];
  const wantsHtml = valuesOf(fields, 'accept').some((value) => value.includes('text/html'));
  const request = { isHead: method === 'HEAD', wantsHtml, ownPort };
  if (name === 'localhost') return { ...request, label: null, port: null };
  const rest = name.endsWith('.localhost') ? name.slice(0, -'.localhost'.length) : '';
  if (rest === '') {
    const text = escapeText(host, 80);
    throw new VproxyError('denied', `Host ${text} is not PORT.CHANNEL.localhost, such as 3000.vm1.localhost`);
  }
  const [, digits = '', label = ''] = /^([1-9]\d{0,4})\.(.+)$/.exec(rest) ?? [];
  const port = Number(digits);
  return port >= 1 && port <= 65_535 ? { ...request, label, port } : { ...request, label: rest, port: null };
}

/** The URL of a port. `ownPort`: that of the listener, with its colon. */
export const urlOfPort = (label: string, port: number | string, ownPort: string): string =>
  `http://${port}.${label}.localhost${ownPort}/`;

function headOf(bytes: Buffer): string {
  const end = endOfHead(bytes, 0);
  if (end === -1 || end > MAX_HEAD_BYTES) throw badArgument(`the head has more than ${MAX_HEAD_BYTES} bytes`);
  return bytes.toString('latin1', 0, end);
}

function orBad<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof BadMessage || error instanceof HeadTooLarge ? badArgument(error.message) : error;
  }
}
