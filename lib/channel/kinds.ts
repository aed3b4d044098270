/** The kinds of channels, by the name that stands before the colon. A new kind is one file and one row here. */
import { exec } from './exec.js';
import { fd } from './fd.js';
import type { ChannelKind } from './kind.js';
import { libvirt } from './libvirt.js';
import { pipeOpen } from './pipe-open.js';
import { stdio } from './stdio.js';
import { tcpConnect } from './tcp-connect.js';
import { tcpListen } from './tcp-listen.js';
import { ttyOpen } from './tty-open.js';
import { unixConnect } from './unix-connect.js';
import { unixListen } from './unix-listen.js';
import { virtserialOpen } from './virtserial-open.js';
import { vsockConnect } from './vsock-connect.js';
import { vsockListen } from './vsock-listen.js';
import { vsockMuxConnect } from './vsock-mux-connect.js';
import { vsockMuxListen } from './vsock-mux-listen.js';

/** Every kind, in the order in which they are listed for people. */
export const CHANNEL_KINDS: ReadonlyMap<string, ChannelKind> = new Map<string, ChannelKind>([
  ['unix-connect', unixConnect],
  ['unix-listen', unixListen],
  ['tcp-connect', tcpConnect],
  ['tcp-listen', tcpListen],
  ['virtserial-open', virtserialOpen],
  ['tty-open', ttyOpen],
  ['pipe-open', pipeOpen],
  ['stdio', stdio],
  ['fd', fd],
  ['exec', exec],
  ['libvirt', libvirt],
  ['vsock-mux-connect', vsockMuxConnect],
  ['vsock-mux-listen', vsockMuxListen],
  ['vsock-connect', vsockConnect],
  ['vsock-listen', vsockListen],
]);
