/** The kinds of channels, by the name before the colon. A new kind is one file and one row here. */
import { exec } from './exec.js';
import { fd, stdio } from './inherited.js';
import type { ChannelKind } from './kind.js';
import { libvirt } from './libvirt.js';
import { pipeOpen } from './pipe-open.js';
import { tcpConnect, tcpListen, unixConnect, unixListen } from './sockets.js';
import { ttyOpen } from './tty-open.js';
import { virtserialOpen } from './virtserial.js';
import { vsockConnect, vsockListen } from './vsock.js';
import { vsockMuxConnect, vsockMuxListen } from './vsock-mux.js';

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
