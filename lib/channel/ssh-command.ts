/**
 * The command behind `ssh://host/path`: the system's ssh, and socat at its far end. `ssh -W /path` would need no socat,
 * but only OpenSSH 9.4 and later take a path there, and `-L` needs a socket here as well, which somebody has to wait for.
 */
import net from 'node:net';
import { VproxyError } from '../errors.js';

/** A unix socket on another machine. */
export interface SshTarget {
  /** Empty: as ssh's own configuration says. */
  readonly user: string;
  /** A name, one of ssh's own aliases too, or an address; IPv6 in brackets. */
  readonly host: string;
  /** Digits; empty: as ssh's own configuration says. */
  readonly port: string;
  readonly path: string;
}

/** No questions, since it has no terminal; and an end where the network has gone. */
const OPTIONS = '-T -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=10 -o ServerAliveCountMax=3';

/** The command, for a shell; nothing in the target can become another word of it. Throws `bad-argument`. */
export function sshCommand({ user, host, port, path }: SshTarget): string {
  const name = host.replace(/^\[(.*)\]$/, '$1');
  if (!HOST.test(name) && !net.isIPv6(name)) throw bad('the host of ssh:// is a name or an address');
  // Some shells take a backslash between quotes for more than itself.
  if (/[\u0000-\u001f\u007f\\]/.test(user + path)) throw bad('ssh:// takes no control characters and no backslashes');
  const remote = `socat - ${quoteWord(`UNIX-CONNECT:${escapeForSocat(path)}`)}`;
  const words = [
    ...(port === '' ? [] : ['-p', port]),
    ...(user === '' ? [] : ['-l', quoteWord(user)]),
    '--',
    name,
    quoteWord(remote),
  ];
  return `ssh ${OPTIONS} ${words.join(' ')}`;
}

const HOST = /^[A-Za-z0-9_][A-Za-z0-9._-]*$/;

/** One word for a shell. */
function quoteWord(text: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** socat has signs of its own: commas begin options, brackets and quotes nest. */
function escapeForSocat(path: string): string {
  return path.replace(/[^A-Za-z0-9_./\-\u0080-\u{10ffff}]/gu, '\\$&');
}

function bad(what: string): VproxyError {
  return new VproxyError('bad-argument', what);
}
