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

/** A kind, with its help texts. */
interface KindRow {
  readonly kind: ChannelKind;
  /** What follows its colon. */
  readonly form: string;
  readonly about: string;
}

const row = (kind: ChannelKind, form: string, about: string): KindRow => ({ kind, form, about });

/** All kinds with their help texts, in the order of the help. */
export const KIND_ROWS: ReadonlyMap<string, KindRow> = new Map([
  ['unix-connect', row(unixConnect, '/path', "a unix socket that somebody listens on, such as QEMU's chardev")],
  ['unix-listen', row(unixListen, '/path', 'a unix socket that this side listens on')],
  ['tcp-connect', row(tcpConnect, 'HOST:PORT', 'a TCP port')],
  ['tcp-listen', row(tcpListen, 'HOST:PORT', 'a TCP port that this side listens on')],
  ['virtserial-open', row(virtserialOpen, 'NAME', "the guest's end of a virtio-serial port, by its name or its path")],
  ['tty-open', row(ttyOpen, '/dev/ttyS1', 'a serial line')],
  ['pipe-open', row(pipeOpen, '/path', "the host's side of QEMU's pipe chardev")],
  ['stdio', row(stdio, '', "this process's own standard input and output")],
  ['fd', row(fd, 'N', 'an inherited descriptor')],
  ['exec', row(exec, 'COMMAND', 'standard input and output of a command')],
  ['libvirt', row(libvirt, 'DOMAIN[:PORTNAME]', 'a port of a libvirt domain, wherever it is now')],
  ['vsock-mux-connect', row(vsockMuxConnect, '/path:PORT', 'a port of the guest of Firecracker or cloud-hypervisor')],
  ['vsock-mux-listen', row(vsockMuxListen, '/path_PORT', 'the socket to which those connect for a guest')],
  ['vsock-connect', row(vsockConnect, 'CID:PORT', 'AF_VSOCK; the host is CID 2')],
  ['vsock-listen', row(vsockListen, 'PORT', 'a port of AF_VSOCK that this side listens on')],
]);

/** The kinds by name, in the same order. */
export const CHANNEL_KINDS: ReadonlyMap<string, ChannelKind> = new Map(
  Array.from(KIND_ROWS, ([name, { kind }]) => [name, kind]),
);
