/**
 * `qemu:CHARDEV`: a character device in QEMU's syntax (`unix:/path,server,nowait`, `socket,host=…,port=…,reconnect=10`). It
 * means the other end of that device: if QEMU listens, this side connects; if QEMU connects, this side listens.
 */
import { badArgument, VproxyError } from '../../errors.js';
import { splitAtCommas } from '../../util/addresses/comma-options.js';
import { dialableHost, formatHostPort } from '../../util/addresses/host-port.js';
import { formatPath } from '../../util/addresses/paths.js';
import { escapeText } from '../../util/escape.js';
import type { ChannelParts } from './uri.js';

/** The prefix in place of a kind. */
export const QEMU_WORD = 'qemu';

/** Parses the channel at the other end; null for a text without the prefix. Throws `bad-argument`. */
export function parseQemuChardev(text: string): ChannelParts | null {
  if (!text.startsWith(`${QEMU_WORD}:`)) return null;
  const [first = '', ...parts] = splitAtCommas(unwrap(text.slice(QEMU_WORD.length + 1)));
  if (first.startsWith('//'))
    throw badArgument('this is a libvirt URI; for a domain use -c libvirt:DOMAIN,uri=qemu:///system');
  const { backend, implied } = parseBackend(first);
  const { qemu, others } = splitQemuOptions([...implied, ...parts]);
  refuseOptions(qemu);
  return { ...otherEnd(backend, qemu), options: others };
}

/** Strips what is often pasted along: the option before it, quotes around it, and a trailing backslash. */
function unwrap(text: string): string {
  const plain = text
    .trim()
    .replace(/(?<!\s)\s+\\$/, '')
    .replace(/^--?(?:chardev|serial)(?:\s+|=)/, '');
  return /^(["'])(.*)\1$/s.exec(plain)?.[2] ?? plain;
}

/** Parses the part before the first comma: a backend, or the older form with an address after a colon. */
function parseBackend(first: string): { readonly backend: string; readonly implied: readonly string[] } {
  // QEMU's monitor prefixes a socket without a client with `disconnected:`.
  const [, word = '', rest = ''] = /^(?:disconnected:)?([a-z0-9]+):(.*)$/s.exec(first) ?? [];
  if (word === 'unix') return { backend: 'socket', implied: [`path=${rest}`] };
  if (word === 'pipe' || word === 'pty') return { backend: word, implied: [`path=${rest}`] };
  if (word === 'tcp') {
    const [, host = '', port] = /^(\[[^\]]*\]|[^:]*):([^:]*)$/s.exec(rest) ?? [];
    if (port === undefined) throw badArgument(`"${escapeText(first)}" is not tcp:HOST:PORT`);
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
      throw badArgument('give the terminal that QEMU prints at startup, and in "info chardev": qemu:pty:/dev/pts/N');
    default:
      throw refuseBackend(backend);
  }
}

function socketEnd(qemu: QemuOptions): Omit<ChannelParts, 'options'> {
  const listens = qemu.flag('server') ?? false;
  const pause = ['reconnect', 'reconnect-ms'].find((name) => qemu.has(name) && !/^0+$/.test(qemu.text(name)));
  if (listens && pause !== undefined)
    throw badArgument(`${pause} is not allowed with server=on, as QEMU does not connect then`);
  const how = listens ? 'connect' : 'listen';
  const isTcp = qemu.has('host');
  // With only a port, QEMU silently listens nowhere.
  if (qemu.has('path') === isTcp || (qemu.has('port') && !isTcp))
    throw badArgument('a socket needs either path=, or host= and port=');
  if (!isTcp) return { kindName: `unix-${how}`, addressText: pathOf(qemu) };
  if (!listens && qemu.text('host') === '') throw badArgument('missing host for QEMU to connect to');
  const port = qemu.text('port');
  if (!/^\d{1,5}$/.test(port) || Number(port) === 0 || Number(port) > 65_535) {
    throw badArgument(`port=${escapeText(port)}: must be a number from 1 to 65535`);
  }
  return { kindName: `tcp-${how}`, addressText: formatHostPort({ host: hostOf(qemu), port: Number(port) }) };
}

/** Collapses leading slashes: with two of them the short form would be a URI. */
function pathOf(qemu: QemuOptions): string {
  return formatPath(qemu.text('path').replace(/^\/+/, '/'));
}

function hostOf(qemu: QemuOptions): string {
  const host = qemu.text('host').replace(/^\[(.*)\]$/, '$1');
  const isOnly6 = qemu.flag('ipv4') === false || (qemu.flag('ipv6') === true && qemu.flag('ipv4') !== true);
  return dialableHost(host, isOnly6);
}

// The options of a QEMU character device, and the channel options among them.

/**
 * QEMU's options for a `-chardev` that could be a channel: on/off flags, and others. None of them is also an option of a
 * channel, so each option after `qemu:` is either QEMU's or the channel's.
 */
export const QEMU_OPTIONS = {
  flags: [
    ...['server', 'wait', 'delay', 'nodelay', 'telnet', 'tn3270', 'websocket', 'ipv4', 'ipv6', 'abstract', 'tight'],
    ...['mux', 'logappend'],
  ],
  values: [
    ...['id', 'path', 'host', 'port', 'to', 'reconnect', 'reconnect-ms', 'tls-creds', 'tls-authz', 'fd', 'logfile'],
  ],
} as const;

const FLAGS: readonly string[] = QEMU_OPTIONS.flags;
const VALUES: readonly string[] = QEMU_OPTIONS.values;

class QemuOptions {
  readonly #values: ReadonlyMap<string, string>;

  constructor(values: ReadonlyMap<string, string>) {
    this.#values = values;
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  /** The value of an option. Throws `bad-argument` if it is missing. */
  text(name: string): string {
    const value = this.#values.get(name);
    if (value === undefined) throw badArgument(`missing ${name}=`);
    return value;
  }

  /** Whether an option is on; undefined if not given. Throws `bad-argument` for another value. */
  flag(name: string): boolean | undefined {
    const value = this.#values.get(name);
    if (value === undefined) return undefined;
    if (['on', 'yes', 'true', 'y'].includes(value)) return true;
    if (['off', 'no', 'false', 'n'].includes(value)) return false;
    throw badArgument(`${name}=${escapeText(value)}: must be on or off`);
  }
}

/** Separates QEMU's options, where the last of a name counts as in QEMU, from all others. Throws `bad-argument`. */
function splitQemuOptions(parts: readonly string[]): {
  readonly qemu: QemuOptions;
  readonly others: readonly string[];
} {
  const values = new Map<string, string>();
  const others: string[] = [];
  for (const part of parts) {
    const [name, value] = parseOption(part);
    if (FLAGS.includes(name) || VALUES.includes(name)) values.set(name, value);
    else others.push(part);
  }
  const qemu = new QemuOptions(values);
  for (const name of FLAGS) qemu.flag(name);
  return { qemu, others };
}

/** Parses `server=on`, or the older forms `server` and `nowait`. */
function parseOption(part: string): readonly [name: string, value: string] {
  const [, name, value = ''] = /^([^=]*)=(.*)$/s.exec(part) ?? [];
  if (name !== undefined) return [name, value];
  if (FLAGS.includes(part)) return [part, 'on'];
  return part.startsWith('no') && FLAGS.includes(part.slice(2)) ? [part.slice(2), 'off'] : ['', ''];
}

// QEMU character devices whose other end cannot be a channel, and why.

const FLAG_REASONS: Readonly<Record<string, string>> = {
  telnet: 'telnet inserts bytes of its own into the data',
  tn3270: 'tn3270 inserts bytes of its own into the data',
  websocket: 'vproxy does not support WebSocket',
  abstract: 'vproxy does not open abstract sockets, which have no permissions; give QEMU a path',
  mux: 'QEMU intercepts Ctrl-A and the byte after it',
};

const VALUE_REASONS: Readonly<Record<string, string>> = {
  'tls-creds': "vproxy does not speak QEMU's TLS; its own is inside the channel (tls=psk, tls=cert)",
  fd: 'only the process that passed it to QEMU knows its other end',
  to: 'QEMU does not show which port of the range it uses; give it one port',
};

/** Throws `bad-argument` if a QEMU option prevents the device from being a channel. */
function refuseOptions(qemu: QemuOptions): void {
  for (const [name, reason] of Object.entries(FLAG_REASONS)) {
    if (qemu.flag(name) === true) throw badArgument(`${name}=on: ${reason}`);
  }
  for (const [name, reason] of Object.entries(VALUE_REASONS)) {
    if (qemu.has(name)) throw badArgument(`${name}=: ${reason}`);
  }
  if (qemu.has('id') && !/^[A-Za-z][A-Za-z0-9._-]*$/.test(qemu.text('id'))) {
    throw badArgument(`id=${escapeText(qemu.text('id'), 80)}: not a valid QEMU id; give one chardev and nothing else`);
  }
}

const BACKEND_REASONS: Readonly<Record<string, string>> = {
  udp: 'datagrams can get lost and are not a byte stream',
  telnet: 'telnet inserts bytes of its own into the data',
  tn3270: 'tn3270 inserts bytes of its own into the data',
  websocket: 'vproxy does not support WebSocket',
  vc: 'it is a screen of QEMU',
  console: 'it is a screen of QEMU',
  stdio: "it is QEMU's own standard input and output; give it a socket, or let exec: run QEMU",
  file: 'it is write-only',
  null: 'it has no other end',
  ringbuf: 'its other end is inside QEMU',
  memory: 'its other end is inside QEMU',
  serial: 'QEMU opens that line itself, and its other end is unknown',
  tty: 'QEMU opens that line itself, and its other end is unknown',
  parallel: 'QEMU opens that device itself',
  parport: 'QEMU opens that device itself',
  mon: 'QEMU intercepts Ctrl-A and the byte after it',
  chardev: 'it refers to a chardev that is defined elsewhere; paste that one',
};

/** Why a kind of device cannot be a channel. */
function refuseBackend(backend: string): VproxyError {
  const known = Object.hasOwn(BACKEND_REASONS, backend) ? BACKEND_REASONS[backend] : undefined;
  const supported = 'supported: unix:, tcp:, pipe: and pty:, and the chardevs socket, pipe and pty';
  if (known !== undefined) return badArgument(`a QEMU ${backend} cannot be a channel: ${known}`);
  return badArgument(`"${escapeText(backend, 80)}" is not a QEMU chardev that can be a channel; ${supported}`);
}
