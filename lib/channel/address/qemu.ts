/**
 * `qemu:CHARDEV`: a character device as QEMU spells it (`unix:/path,server,nowait`, `socket,host=…,port=…,reconnect=10`). It
 * means the other end of that device: where QEMU listens this side connects, and where QEMU connects it listens.
 */
import { badArgument, VproxyError } from '../../errors.js';
import { dialableHost, formatHostPort, formatPath, splitAtCommas } from '../../util/addresses.js';
import { escapeText } from '../../util/escape.js';
import type { ChannelParts } from './uri.js';

/** The word in the place of a kind. */
export const QEMU_WORD = 'qemu';

/** The channel at the other end; null for a text that is no such one. Throws `bad-argument`. */
export function parseQemuChardev(text: string): ChannelParts | null {
  if (!text.startsWith(`${QEMU_WORD}:`)) return null;
  const [first = '', ...parts] = splitAtCommas(unwrap(text.slice(QEMU_WORD.length + 1)));
  if (first.startsWith('//'))
    throw badArgument('that is a URI of libvirt; a domain is -c libvirt:DOMAIN,uri=qemu:///system');
  const { backend, implied } = parseBackend(first);
  const { qemu, others } = splitQemuOptions([...implied, ...parts]);
  refuseOptions(qemu);
  return { ...otherEnd(backend, qemu), options: others };
}

/** What people paste along: the option before it, quotes around it, and a backslash at the end of its line. */
function unwrap(text: string): string {
  const plain = text
    .trim()
    .replace(/(?<!\s)\s+\\$/, '')
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
      throw badArgument(
        'QEMU says at its start, and in "info chardev", which terminal it made: write qemu:pty:/dev/pts/N',
      );
    default:
      throw refuseBackend(backend);
  }
}

function socketEnd(qemu: QemuOptions): Omit<ChannelParts, 'options'> {
  const listens = qemu.flag('server') ?? false;
  const pause = ['reconnect', 'reconnect-ms'].find((name) => qemu.has(name) && !/^0+$/.test(qemu.text(name)));
  if (listens && pause !== undefined)
    throw badArgument(`QEMU takes no ${pause} with server=on, as it does not connect then`);
  const how = listens ? 'connect' : 'listen';
  const isTcp = qemu.has('host');
  // With a port alone QEMU listens nowhere, and does not say so.
  if (qemu.has('path') === isTcp || (qemu.has('port') && !isTcp))
    throw badArgument('a socket has either path=, or host= and port=');
  if (!isTcp) return { kindName: `unix-${how}`, addressText: pathOf(qemu) };
  if (!listens && qemu.text('host') === '') throw badArgument('has no host that QEMU could connect to');
  const port = qemu.text('port');
  if (!/^\d{1,5}$/.test(port) || Number(port) === 0 || Number(port) > 65_535) {
    throw badArgument(`has port=${escapeText(port)}, which should be a number from 1 to 65535`);
  }
  return { kindName: `tcp-${how}`, addressText: formatHostPort({ host: hostOf(qemu), port: Number(port) }) };
}

/** With two slashes at its start the short form would be a URI. */
function pathOf(qemu: QemuOptions): string {
  return formatPath(qemu.text('path').replace(/^\/+/, '/'));
}

function hostOf(qemu: QemuOptions): string {
  const host = qemu.text('host').replace(/^\[(.*)\]$/, '$1');
  const isOnly6 = qemu.flag('ipv4') === false || (qemu.flag('ipv6') === true && qemu.flag('ipv4') !== true);
  return dialableHost(host, isOnly6);
}

// The options of a character device of QEMU, and those of a channel among them.

/**
 * What QEMU knows behind a `-chardev` that could be a channel: words that are on or off, and others. None of them is also an
 * option of a channel, so each option behind `qemu:` belongs to one of the two.
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

/** The options of QEMU in a spelling. */
class QemuOptions {
  readonly #values: ReadonlyMap<string, string>;

  constructor(values: ReadonlyMap<string, string>) {
    this.#values = values;
  }

  has(name: string): boolean {
    return this.#values.has(name);
  }

  /** The value of an option. Throws `bad-argument` where it is not there. */
  text(name: string): string {
    const value = this.#values.get(name);
    if (value === undefined) throw badArgument(`${name}= is missing`);
    return value;
  }

  /** Whether an option is on; undefined where nothing is said. Throws `bad-argument` for another value. */
  flag(name: string): boolean | undefined {
    const value = this.#values.get(name);
    if (value === undefined) return undefined;
    if (['on', 'yes', 'true', 'y'].includes(value)) return true;
    if (['off', 'no', 'false', 'n'].includes(value)) return false;
    throw badArgument(`has ${name}=${escapeText(value)}, which should be on or off`);
  }
}

/** QEMU's options, of which the last one of a name counts as it does there, and all others. Throws `bad-argument`. */
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

/** `server=on`, or as it was in former times: `server`, `nowait`. */
function parseOption(part: string): readonly [name: string, value: string] {
  const [, name, value = ''] = /^([^=]*)=(.*)$/s.exec(part) ?? [];
  if (name !== undefined) return [name, value];
  if (FLAGS.includes(part)) return [part, 'on'];
  return part.startsWith('no') && FLAGS.includes(part.slice(2)) ? [part.slice(2), 'off'] : ['', ''];
}

// Character devices of QEMU whose other end cannot be a channel, and why.

const FLAG_REASONS: Readonly<Record<string, string>> = {
  telnet: 'telnet puts bytes of its own between those of the guest',
  tn3270: 'tn3270 puts bytes of its own between those of the guest',
  websocket: 'vproxy speaks no WebSocket',
  abstract: 'vproxy opens no abstract sockets, which have no permissions; give QEMU a path',
  mux: 'QEMU takes Ctrl-A, and what follows it, out of the bytes of such a device',
};

const VALUE_REASONS: Readonly<Record<string, string>> = {
  'tls-creds': "vproxy does not speak QEMU's TLS; its own is inside the channel (tls=psk, tls=cert)",
  fd: 'only the process that QEMU has it from knows what is at its other end',
  to: 'which port of the range QEMU has taken does not show; give it one port',
};

/** Throws `bad-argument` where an option of QEMU keeps the device from being a channel. */
function refuseOptions(qemu: QemuOptions): void {
  for (const [name, reason] of Object.entries(FLAG_REASONS)) {
    if (qemu.flag(name) === true) throw badArgument(`has ${name}=on: ${reason}`);
  }
  for (const [name, reason] of Object.entries(VALUE_REASONS)) {
    if (qemu.has(name)) throw badArgument(`has ${name}=: ${reason}`);
  }
  if (qemu.has('id') && !/^[A-Za-z][A-Za-z0-9._-]*$/.test(qemu.text('id'))) {
    throw badArgument(
      `has id=${escapeText(qemu.text('id'), 80)}, which is no id of QEMU; one chardev belongs here, nothing else`,
    );
  }
}

const BACKEND_REASONS: Readonly<Record<string, string>> = {
  udp: 'datagrams get lost, and are no stream of bytes',
  telnet: 'telnet puts bytes of its own between those of the guest',
  tn3270: 'tn3270 puts bytes of its own between those of the guest',
  websocket: 'vproxy speaks no WebSocket',
  vc: 'it is a screen of QEMU',
  console: 'it is a screen of QEMU',
  stdio: "it is QEMU's own standard input and output; give it a socket, or let exec: run QEMU",
  file: 'what the guest sends ends there, and nothing comes back',
  null: 'nothing is at its other end',
  ringbuf: 'its other end is in QEMU itself',
  memory: 'its other end is in QEMU itself',
  serial: 'QEMU opens that line itself; what is at its other end does not show',
  tty: 'QEMU opens that line itself; what is at its other end does not show',
  parallel: 'QEMU opens that device itself',
  parport: 'QEMU opens that device itself',
  mon: 'QEMU takes Ctrl-A, and what follows it, out of the bytes of such a device',
  chardev: 'it names a device that is spelled elsewhere: paste that one',
};

/** Why a kind of device cannot be a channel. */
function refuseBackend(backend: string): VproxyError {
  const known = Object.hasOwn(BACKEND_REASONS, backend) ? BACKEND_REASONS[backend] : undefined;
  const taken = 'vproxy takes unix:, tcp:, pipe: and pty:, and the chardevs socket, pipe and pty';
  if (known !== undefined) return badArgument(`a ${backend} of QEMU cannot be a channel: ${known}`);
  return badArgument(`"${escapeText(backend, 80)}" is no chardev of QEMU that can be a channel; ${taken}`);
}
