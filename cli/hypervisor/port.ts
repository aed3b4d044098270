/** A virtio-serial port for a hypervisor: its name and the host's end, the options for them, and vproxy's channels. */
import { badArgument, naming, type VproxyError } from '../../lib/errors.js';
import { joinWithCommas } from '../../lib/util/addresses/comma-options.js';
import { formatHostPort, parseHostPort } from '../../lib/util/addresses/host-port.js';
import { formatPath, parseSocketPath } from '../../lib/util/addresses/paths.js';
import { escapeText, quoteWord } from '../../lib/util/escape.js';
import { parseDuration } from '../../lib/util/units.js';
import type { Arguments } from '../command/arguments.js';
import type { CommandOptions } from '../command/command.js';
import { print } from '../ui/print.js';

/** Who listens at the host's end: with `bind` QEMU listens, with `connect` it dials. */
type SocketMode = 'bind' | 'connect';

/** The host's end of a port, QEMU's chardev. */
type HostEnd =
  /** A unix socket; if its path is null (only with `bind`), libvirt picks one. */
  | { readonly kind: 'unix'; readonly mode: SocketMode; readonly path: string | null }
  /** A TCP address; an IPv6 host has no brackets. */
  | { readonly kind: 'tcp'; readonly mode: SocketMode; readonly host: string; readonly port: number }
  /** The FIFOs `PATH.in` and `PATH.out`. */
  | { readonly kind: 'pipe'; readonly path: string };

export interface HypervisorPort {
  /** The name by which the guest finds it. */
  readonly name: string;
  readonly end: HostEnd;
  /** How long QEMU waits before it reconnects, if it dials, in seconds. */
  readonly reconnectSeconds: number;
}

/** Whether QEMU dials at the host's end, and so needs a reconnect interval. */
export const isDialed = ({ end }: HypervisorPort): boolean => end.kind !== 'pipe' && end.mode === 'connect';

// The options that describe a port to a command, and their values.

/** Options of every command that prints a port. */
export const PORT_OPTIONS = {
  name: { value: 'NAME', describe: 'Name of the port, for the guest [default: org.vproxy.0]' },
  mode: { value: 'bind|connect', describe: 'Whether QEMU listens, or connects to a vproxy that does [default: bind]' },
  path: { value: 'PATH', describe: 'Unix socket on the host' },
  tcp: { value: '[HOST:]PORT', describe: 'TCP address instead of a unix socket; HOST defaults to 127.0.0.1' },
  pipe: { value: 'PATH', describe: 'FIFOs instead of a socket, created by vproxy pipe-create' },
  reconnect: { value: 'SECONDS', describe: 'With --mode connect: delay before QEMU reconnects [default: 1]' },
} as const satisfies CommandOptions;

/** Parses the port that `args` describe. `needsPath`: nothing picks a path for a unix socket. Throws `bad-argument`. */
export function parsePort(args: Arguments, needsPath: boolean): HypervisorPort {
  const name = parseName(args.text('name') ?? 'org.vproxy.0');
  const end = parseEnd(args, needsPath);
  if (end.kind === 'unix' && end.path === null && name.length > LONGEST_WITHOUT_PATH) {
    throw bad(
      'name',
      name,
      `is too long for a path chosen by libvirt: ${name.length} characters (max ${LONGEST_WITHOUT_PATH}); give --path`,
    );
  }
  return { name, end, reconnectSeconds: parseReconnect(args, end) };
}

/** It becomes a file name in the guest and, with libvirt, on the host. */
const NAME = /^[A-Za-z0-9][\w.-]{0,63}$/;

/** In `/var/lib/libvirt/qemu/channel/target/domain-ID-NAME/`, where libvirt truncates the domain's NAME; ID has five digits. */
const LONGEST_WITHOUT_PATH = 36;

function parseName(name: string): string {
  if (!NAME.test(name)) {
    throw bad(
      'name',
      name,
      'is not a valid port name: 1 to 64 of A-Z, a-z, 0-9, ".", "_" and "-", a letter or digit first',
    );
  }
  if (name === 'org.qemu.guest_agent.0')
    throw bad('name', name, "is reserved for QEMU's guest agent, which libvirt uses");
  return name;
}

function parseEnd(args: Arguments, needsPath: boolean): HostEnd {
  const [kind = 'path', second] = (['path', 'tcp', 'pipe'] as const).filter((option) => args.has(option));
  if (second !== undefined) throw badArgument(`--${second}: not allowed with --${kind}`);
  const text = args.text(kind);
  if (kind === 'pipe') {
    if (args.has('mode')) throw badArgument('--mode: not allowed with --pipe');
    return { kind, path: parsePath(kind, text ?? '') };
  }
  const mode = parseMode(args.text('mode') ?? 'bind');
  if (kind === 'tcp') return { kind, mode, ...parseTcp(text ?? '') };
  if (text !== undefined) {
    const path = parsePath(kind, text);
    return { kind: 'unix', mode, path: naming(`--${kind}`, () => parseSocketPath(path)) };
  }
  if (mode === 'connect' || needsPath) {
    throw badArgument('--path: missing; expected a unix socket, such as --path /run/vm1.sock');
  }
  return { kind: 'unix', mode, path: null };
}

function parseMode(text: string): SocketMode {
  if (text === 'bind' || text === 'connect') return text;
  throw bad('mode', text, 'is neither bind nor connect');
}

function parseTcp(text: string): { host: string; port: number } {
  return naming('--tcp', () => parseHostPort(/^\d+$/.test(text) ? `127.0.0.1:${text}` : text));
}

/** XML cannot contain control characters, nor QEMU arguments line breaks; Node replaces invalid UTF-8 by U+FFFD. */
function parsePath(option: string, path: string): string {
  if (!/^\/.*[^/]$/su.test(path)) throw bad(option, path, 'is not the absolute path of a file');
  if (/[\p{Control}\p{Surrogate}\ufffd-\uffff]/u.test(path)) throw bad(option, path, 'contains invalid characters');
  return path;
}

function parseReconnect(args: Arguments, end: HostEnd): number {
  const text = args.text('reconnect');
  if (text === undefined) return 1;
  if (end.kind === 'pipe' || end.mode !== 'connect') throw badArgument('--reconnect: only allowed with --mode connect');
  const seconds = /^\d{1,4}$/.test(text) ? Number(text) : (parseDuration(text) ?? 0) / 1000;
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > 3600) {
    throw bad('reconnect', text, 'is not a whole number of seconds from 1 to 3600');
  }
  return seconds;
}

const bad = (option: string, value: string, what: string): VproxyError =>
  badArgument(`--${option}: "${escapeText(value, 64)}" ${what}`);

/** The channel of the host's vproxy: it connects if QEMU listens, and vice versa. */
function hostChannel({ name, end }: HypervisorPort): string {
  const [kind, address] = describeEnd(end, name);
  return `${kind}:${joinWithCommas([address])}`;
}

function describeEnd(end: HostEnd, name: string): [kind: string, address: string] {
  if (end.kind === 'pipe') return ['pipe-open', formatPath(end.path)];
  if (end.kind === 'tcp') return [end.mode === 'bind' ? 'tcp-connect' : 'tcp-listen', formatHostPort(end)];
  if (end.path === null) return ['libvirt', `DOMAIN:${name}`];
  return [end.mode === 'bind' ? 'unix-connect' : 'unix-listen', formatPath(end.path)];
}

// Output of the commands that print a port.

/** Prints a text; on a terminal, also the channels of vproxy that belong to it. */
export function printPort(port: HypervisorPort, text: string): void {
  print(text);
  if (!process.stdout.isTTY) return;
  const channels = `on the host: -c ${quote(hostChannel(port))}; in the guest: -c ${quote(`virtserial-open:${port.name}`)}`;
  process.stderr.write(`vproxy: ${channels}\n`);
}

const quote = (text: string): string => quoteWord(escapeText(text, 512));
