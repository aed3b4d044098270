/** A virtio-serial port as a hypervisor needs it: its name and the host's end, the options for them, and vproxy's channels. */
import { badArgument, naming, type VproxyError } from '../../lib/errors.js';
import {
  formatHostPort,
  formatPath,
  joinWithCommas,
  parseHostPort,
  parseSocketPath,
} from '../../lib/util/addresses.js';
import { escapeText, quoteWord } from '../../lib/util/escape.js';
import { parseDuration } from '../../lib/util/units.js';
import type { Arguments } from '../command/arguments.js';
import type { CommandOptions } from '../command/command.js';
import { print } from '../ui/print.js';

/** Which side waits at the host's end: in `bind` QEMU listens, in `connect` it dials. */
type SocketMode = 'bind' | 'connect';

/** The host's end of a port: what QEMU calls its chardev. */
type HostEnd =
  /** A unix socket; with null for its path, which only `bind` may have, libvirt picks one. */
  | { readonly kind: 'unix'; readonly mode: SocketMode; readonly path: string | null }
  /** A TCP address; an IPv6 host has no brackets. */
  | { readonly kind: 'tcp'; readonly mode: SocketMode; readonly host: string; readonly port: number }
  /** The FIFOs `PATH.in` and `PATH.out`. */
  | { readonly kind: 'pipe'; readonly path: string };

/** One port. */
export interface HypervisorPort {
  /** The name by which the guest finds it. */
  readonly name: string;
  readonly end: HostEnd;
  /** How long QEMU waits before it dials again, where it does, in seconds. */
  readonly reconnectSeconds: number;
}

/** Whether QEMU dials at the host's end, and so has to be told to reconnect. */
export const isDialed = ({ end }: HypervisorPort): boolean => end.kind !== 'pipe' && end.mode === 'connect';

// The options that describe a port to a command, and their values.

/** For every command that prints a port. */
export const PORT_OPTIONS = {
  name: { value: 'NAME', describe: 'Name of the port, for the guest [default: org.vproxy.0]' },
  mode: { value: 'bind|connect', describe: 'Whether QEMU listens, or connects to a vproxy that does [default: bind]' },
  path: { value: 'PATH', describe: 'Unix socket at the host' },
  tcp: { value: '[HOST:]PORT', describe: 'TCP address in place of a unix socket; HOST is 127.0.0.1 by default' },
  pipe: { value: 'PATH', describe: 'FIFOs in place of a socket; vproxy pipe-create makes them' },
  reconnect: { value: 'SECONDS', describe: 'With --mode connect: how long until QEMU connects again [default: 1]' },
} as const satisfies CommandOptions;

/**
 * The port that `args` describe. `needsPath`: a unix socket needs a path, as nothing else picks one. Throws
 * `bad-argument`.
 */
export function parsePort(args: Arguments, needsPath: boolean): HypervisorPort {
  const name = parseName(args.text('name') ?? 'org.vproxy.0');
  const end = parseEnd(args, needsPath);
  if (end.kind === 'unix' && end.path === null && name.length > LONGEST_WITHOUT_PATH) {
    throw bad(
      'name',
      name,
      `is too long for the path that libvirt makes of it (${LONGEST_WITHOUT_PATH}); give a --path`,
    );
  }
  return { name, end, reconnectSeconds: parseReconnect(args, end) };
}

/** A file has this name in the guest and, with libvirt, on the host. */
const NAME = /^[A-Za-z0-9][\w.-]{0,63}$/;

/** In `/var/lib/libvirt/qemu/channel/target/domain-ID-NAME/`, where libvirt cuts the domain's NAME, and an ID has five digits. */
const LONGEST_WITHOUT_PATH = 36;

function parseName(name: string): string {
  if (!NAME.test(name)) {
    throw bad(
      'name',
      name,
      'is no name of a port: 1 to 64 of A-Z, a-z, 0-9, ".", "_" and "-", a letter or digit first',
    );
  }
  if (name === 'org.qemu.guest_agent.0')
    throw bad('name', name, "is the port of QEMU's guest agent, which libvirt uses");
  return name;
}

function parseEnd(args: Arguments, needsPath: boolean): HostEnd {
  const [kind = 'path', second] = (['path', 'tcp', 'pipe'] as const).filter((option) => args.has(option));
  if (second !== undefined) throw badArgument(`--${second}: it is in the place of --${kind}; give one`);
  const text = args.text(kind);
  if (kind === 'pipe') {
    if (args.has('mode')) throw badArgument('--mode: a pipe has none; leave it out');
    return { kind, path: parsePath(kind, text ?? '') };
  }
  const mode = parseMode(args.text('mode') ?? 'bind');
  if (kind === 'tcp') return { kind, mode, ...parseTcp(text ?? '') };
  if (text !== undefined) {
    const path = parsePath(kind, text);
    return { kind: 'unix', mode, path: naming(`--${kind}`, () => parseSocketPath(path)) };
  }
  if (mode === 'connect' || needsPath) {
    throw badArgument('--path: it is required; expected a unix socket, such as --path /run/vm1.sock');
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

/**
 * XML cannot contain control characters, nor can an argument of QEMU contain a line break; Node has put U+FFFD in place
 * of what was not UTF-8.
 */
function parsePath(option: string, path: string): string {
  if (!/^\/.*[^/]$/su.test(path)) throw bad(option, path, 'is not the absolute path of a file');
  if (/[\p{Control}\p{Surrogate}\ufffd-\uffff]/u.test(path)) throw bad(option, path, 'has characters that are no text');
  return path;
}

function parseReconnect(args: Arguments, end: HostEnd): number {
  const text = args.text('reconnect');
  if (text === undefined) return 1;
  if (end.kind === 'pipe' || end.mode !== 'connect') {
    throw badArgument('--reconnect: QEMU connects only with --mode connect');
  }
  const seconds = /^\d{1,4}$/.test(text) ? Number(text) : (parseDuration(text) ?? 0) / 1000;
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > 3600) {
    throw bad('reconnect', text, 'is not a whole number of seconds from 1 to 3600');
  }
  return seconds;
}

const bad = (option: string, value: string, what: string): VproxyError =>
  badArgument(`--${option}: "${escapeText(value, 64)}" ${what}`);

// Which channels of vproxy belong to a port: at the host, and in the guest.

/** The channel of the host's vproxy: where QEMU listens it connects, and the other way round. */
function hostChannel({ name, end }: HypervisorPort): string {
  const [kind, address] = describeEnd(end, name);
  return `${kind}:${joinWithCommas([address])}`;
}

/** The channel of the guest's vproxy. */
function guestChannel({ name }: HypervisorPort): string {
  return `virtserial-open:${name}`;
}

function describeEnd(end: HostEnd, name: string): [kind: string, address: string] {
  if (end.kind === 'pipe') return ['pipe-open', formatPath(end.path)];
  if (end.kind === 'tcp') return [end.mode === 'bind' ? 'tcp-connect' : 'tcp-listen', formatHostPort(end)];
  if (end.path === null) return ['libvirt', `DOMAIN:${name}`];
  return [end.mode === 'bind' ? 'unix-connect' : 'unix-listen', formatPath(end.path)];
}

// How the commands that print a port do it.

/** Prints a text; at a terminal, also the channels of vproxy that belong to it. */
export function printPort(port: HypervisorPort, text: string): void {
  print(text);
  if (!process.stdout.isTTY) return;
  const channels = `at the host -c ${quote(hostChannel(port))}, in the guest -c ${quote(guestChannel(port))}`;
  process.stderr.write(`vproxy: ${channels}\n`);
}

const quote = (text: string): string => quoteWord(escapeText(text, 512));
