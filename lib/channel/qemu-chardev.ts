/**
 * `qemu:CHARDEV`: a character device as QEMU spells it (`unix:/path,server,nowait`, `socket,host=…,port=…,reconnect=10`). It
 * means the other end of that device: where QEMU listens this side connects, and where QEMU connects it listens.
 */
import { VproxyError } from '../errors.js';
import { splitAtCommas } from '../util/comma-list.js';
import { escapeText } from '../util/escape.js';
import { formatHostPort } from '../util/host-port.js';
import { formatPath } from '../util/unix-path.js';
import { type QemuOptions, splitQemuOptions } from './qemu-options.js';
import { refuseBackend, refuseOptions } from './qemu-refusals.js';
import type { ChannelParts } from './uri.js';

/** What stands in the place of a kind. */
export const QEMU_WORD = 'qemu';

/** The channel at the other end; null for a text that is no such one. Throws `bad-argument`. */
export function parseQemuChardev(text: string): ChannelParts | null {
  if (!text.startsWith(`${QEMU_WORD}:`)) return null;
  const [first = '', ...parts] = splitAtCommas(unwrap(text.slice(QEMU_WORD.length + 1)));
  if (first.startsWith('//')) throw bad('that is a URI of libvirt; a domain is -c libvirt:DOMAIN,uri=qemu:///system');
  const { backend, implied } = parseBackend(first);
  const { qemu, others } = splitQemuOptions([...implied, ...parts]);
  refuseOptions(qemu);
  return { ...otherEnd(backend, qemu), options: others };
}

/** What people paste along: the option before it, quotes around it, and a backslash at the end of its line. */
function unwrap(text: string): string {
  const plain = text
    .trim()
    .replace(/\s+\\$/, '')
    .replace(/^--?(?:chardev|serial)(?:\s+|=)/, '');
  return /^(["'])(.*)\1$/s.exec(plain)?.[2] ?? plain;
}

/** What comes before the first comma: a backend, or the older form with an address behind a colon. */
function parseBackend(first: string): { readonly backend: string; readonly implied: readonly string[] } {
  // QEMU's monitor says so of a socket to which nobody is connected.
  const [, word = '', rest = ''] = /^(?:disconnected:)?([a-z0-9]+):(.*)$/s.exec(first) ?? [];
  if (word === 'unix') return { backend: 'socket', implied: [`path=${rest}`] };
  if (word === 'pipe' || word === 'pty') return { backend: word, implied: [`path=${rest}`] };
  if (word === 'tcp') {
    const [, host = '', port] = /^(\[[^\]]*\]|[^:]*):([^:]*)$/s.exec(rest) ?? [];
    if (port === undefined) throw bad(`"${escapeText(first)}" is not tcp:HOST:PORT`);
    return { backend: 'socket', implied: [`host=${host}`, `port=${port}`] };
  }
  return { backend: word === '' ? first.replace(/^backend=/, '') : word, implied: [] };
}

function otherEnd(backend: string, qemu: QemuOptions): Omit<ChannelParts, 'options'> {
  switch (backend) {
    case 'socket':
      return socketEnd(qemu);
    case 'pipe':
      return { kindName: 'pipe-open', addressText: pathOf(qemu) };
    case 'pty':
      if (qemu.has('path')) return { kindName: 'tty-open', addressText: pathOf(qemu) };
      throw bad('QEMU says at its start, and in "info chardev", which terminal it made: write qemu:pty:/dev/pts/N');
    default:
      throw refuseBackend(backend);
  }
}

function socketEnd(qemu: QemuOptions): Omit<ChannelParts, 'options'> {
  const listens = qemu.flag('server') ?? false;
  const pause = ['reconnect', 'reconnect-ms'].find((name) => qemu.has(name) && !/^0+$/.test(qemu.text(name)));
  if (listens && pause !== undefined) throw bad(`QEMU takes no ${pause} with server=on, as it does not connect then`);
  const how = listens ? 'connect' : 'listen';
  const isTcp = qemu.has('host');
  // With a port alone QEMU listens nowhere, and does not say so.
  if (qemu.has('path') === isTcp || (qemu.has('port') && !isTcp))
    throw bad('a socket has either path=, or host= and port=');
  if (!isTcp) return { kindName: `unix-${how}`, addressText: pathOf(qemu) };
  if (!listens && qemu.text('host') === '') throw bad('has no host that QEMU could connect to');
  const port = qemu.text('port');
  if (!/^\d{1,5}$/.test(port) || Number(port) === 0 || Number(port) > 65_535) {
    throw bad(`has port=${escapeText(port)}, which should be a number from 1 to 65535`);
  }
  return { kindName: `tcp-${how}`, addressText: formatHostPort({ host: hostOf(qemu), port: Number(port) }) };
}

/** With two slashes at its start the short form would be a URI. */
function pathOf(qemu: QemuOptions): string {
  return formatPath(qemu.text('path').replace(/^\/+/, '/'));
}

/** An address that stands for every one of the machine is reached by the loopback device. */
function hostOf(qemu: QemuOptions): string {
  const host = qemu.text('host').replace(/^\[(.*)\]$/, '$1');
  const isOnly6 = qemu.flag('ipv4') === false || (qemu.flag('ipv6') === true && qemu.flag('ipv4') !== true);
  if (host === '::') return '::1';
  if (host === '' || host === '0.0.0.0') return isOnly6 ? '::1' : '127.0.0.1';
  return host;
}

function bad(what: string): VproxyError {
  return new VproxyError('bad-argument', what);
}
