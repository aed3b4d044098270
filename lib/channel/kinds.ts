/** The kinds of channels, by the name that stands before the colon. A new kind is one file and one row here. */
import type { ChannelKind } from './kind.js';
import { tcpConnect } from './tcp-connect.js';
import { tcpListen } from './tcp-listen.js';
import { unixConnect } from './unix-connect.js';
import { unixListen } from './unix-listen.js';
import { virtserialOpen } from './virtserial-open.js';

/** Every kind, in the order in which they are listed for people. */
export const CHANNEL_KINDS: ReadonlyMap<string, ChannelKind> = new Map<string, ChannelKind>([
  ['unix-connect', unixConnect],
  ['unix-listen', unixListen],
  ['tcp-connect', tcpConnect],
  ['tcp-listen', tcpListen],
  ['virtserial-open', virtserialOpen],
]);
