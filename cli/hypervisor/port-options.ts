/** The options by which a port is told to a command, and what they may say. */
import { VproxyError } from '../../lib/errors.js';
import { escapeText } from '../../lib/util/escape.js';
import { parseHostPort } from '../../lib/util/host-port.js';
import { parseSocketPath } from '../../lib/util/unix-path.js';
import type { Arguments } from '../control/arguments.js';
import type { CommandOptions } from '../control/command.js';
import type { HostEnd, HypervisorPort, SocketMode } from './hypervisor-port.js';

/** For every command that writes a port down. */
export const PORT_OPTIONS = {
  name: { value: 'NAME', describe: 'Name of the port, for the guest [default: org.vproxy.0]' },
  mode: { value: 'bind|connect', describe: 'Whether QEMU listens, or connects to a vproxy that does [default: bind]' },
  path: { value: 'PATH', describe: 'Unix socket at the host' },
  tcp: { value: '[HOST:]PORT', describe: 'TCP address in place of a unix socket; HOST is 127.0.0.1 by default' },
  pipe: { value: 'PATH', describe: 'FIFOs in place of a socket; vproxy pipe-create makes them' },
  reconnect: { value: 'SECONDS', describe: 'With --mode connect: how long until QEMU connects again [default: 1]' },
} as const satisfies CommandOptions;

/** The port that `args` tell. `needsPath`: nobody else picks a path for a unix socket. Throws `bad-argument`. */
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

/** A file is called like it, in the guest and, by libvirt, at the host. */
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
  if (second !== undefined)
    throw new VproxyError('bad-argument', `--${second}: it is in the place of --${kind}; give one`);
  const text = args.text(kind);
  if (kind === 'pipe') {
    if (args.has('mode')) throw new VproxyError('bad-argument', '--mode: a pipe has none; leave it out');
    return { kind, path: parsePath(kind, text ?? '') };
  }
  const mode = parseMode(args.text('mode') ?? 'bind');
  if (kind === 'tcp') return { kind, mode, ...parseTcp(text ?? '') };
  if (text !== undefined) {
    const path = parsePath(kind, text);
    return { kind: 'unix', mode, path: explain(kind, () => parseSocketPath(path)) };
  }
  if (mode === 'connect' || needsPath) {
    throw new VproxyError(
      'bad-argument',
      '--path: it is required; expected a unix socket, such as --path /run/vm1.sock',
    );
  }
  return { kind: 'unix', mode, path: null };
}

function parseMode(text: string): SocketMode {
  if (text === 'bind' || text === 'connect') return text;
  throw bad('mode', text, 'is neither bind nor connect');
}

function parseTcp(text: string): { host: string; port: number } {
  return explain('tcp', () => parseHostPort(/^\d+$/.test(text) ? `127.0.0.1:${text}` : text));
}

/** XML has no way to write control characters, nor QEMU a line break; Node has put U+FFFD in the place of what was no UTF-8. */
function parsePath(option: string, path: string): string {
  if (!/^\/.*[^/]$/su.test(path)) throw bad(option, path, 'is not the absolute path of a file');
  if (/[\p{Control}\p{Surrogate}\ufffd-\uffff]/u.test(path)) throw bad(option, path, 'has characters that are no text');
  return path;
}

function parseReconnect(args: Arguments, end: HostEnd): number {
  const text = args.text('reconnect');
  if (text === undefined) return 1;
  if (end.kind === 'pipe' || end.mode !== 'connect') {
    throw new VproxyError('bad-argument', '--reconnect: QEMU connects only with --mode connect');
  }
  const seconds = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (seconds < 1 || seconds > 3600) throw bad('reconnect', text, 'is not a whole number of seconds from 1 to 3600');
  return seconds;
}

/** Runs `parse`, and names the option in what it throws. */
function explain<T>(option: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof VproxyError)
      throw new VproxyError(error.code, `--${option}: ${error.message}`, { cause: error });
    throw error;
  }
}

const bad = (option: string, value: string, what: string): VproxyError =>
  new VproxyError('bad-argument', `--${option}: "${escapeText(value, 64)}" ${what}`);
