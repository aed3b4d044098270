/** Channels as URIs: `unix:///run/vm1.sock`, `tcp://[::1]:9000?frame=4096`, `ssh://host/run/vm1.sock` (docs/channel-kinds.md). */
import { badArgument, VproxyError } from '../../errors.js';
import { isIPv6 } from '../../util/addresses/host-port.js';
import { formatPath } from '../../util/addresses/paths.js';
import { quoteWord } from '../../util/escape.js';

/** A URI in the parts of the short form. */
export interface ChannelParts {
  readonly kindName: string;
  readonly addressText: string;
  /** `key=value` each. */
  readonly options: readonly string[];
}

/** Reads the address of a kind from a URI. */
interface Scheme {
  readonly kindName: string;
  readonly form: string;
  /** The text after `KIND:`, or null if the URI is not of the form. */
  read(parts: UriParts): string | null;
}

interface UriParts {
  readonly user: string;
  /** An IPv6 address in brackets. */
  readonly host: string;
  readonly port: string;
  /** Decoded; empty, or with a leading slash. */
  readonly path: string;
}

const isEmptyPath = ({ path }: UriParts): boolean => path === '' || path === '/';
const hasAuthority = ({ user, host, port }: UriParts): boolean => `${user}${host}${port}` !== '';

const pathScheme = (kindName: string, form: string): Scheme => ({
  kindName,
  form,
  read: (parts) => (hasAuthority(parts) || isEmptyPath(parts) ? null : formatPath(parts.path)),
});

const portScheme = (kindName: string, form: string): Scheme => ({
  kindName,
  form,
  read: (parts) =>
    parts.user !== '' || parts.host === '' || parts.port === '' || !isEmptyPath(parts)
      ? null
      : `${parts.host}:${parts.port}`,
});

/** A scheme with a word in place of the host. */
const wordScheme = (kindName: string, form: string): Scheme => ({
  kindName,
  form,
  read: (parts) => (parts.user !== '' || parts.port !== '' || !isEmptyPath(parts) ? null : parts.host),
});

/** The schemes of all kinds that have one. */
const KIND_SCHEMES: readonly Scheme[] = [
  pathScheme('unix-connect', 'unix:///path'),
  pathScheme('unix-listen', 'unix-listen:///path'),
  portScheme('tcp-connect', 'tcp://host:port'),
  portScheme('tcp-listen', 'tcp-listen://host:port'),
  {
    kindName: 'virtserial-open',
    form: 'virtserial:///dev/virtio-ports/name, or virtserial://name',
    read({ user, host, port, path }) {
      if (user !== '' || port !== '' || path === '/' || (host !== '') === (path !== '')) return null;
      return formatPath(`${host}${path}`);
    },
  },
  pathScheme('tty-open', 'tty:///dev/ttyS1'),
  pathScheme('pipe-open', 'pipe:///path'),
  { kindName: 'stdio', form: 'stdio://', read: (parts) => (hasAuthority(parts) ? null : '') },
  wordScheme('fd', 'fd://number'),
  portScheme('vsock-connect', 'vsock://cid:port'),
  wordScheme('vsock-listen', 'vsock-listen://port'),
  pathScheme('vsock-mux-connect', 'vsock-mux:///path:port'),
  pathScheme('vsock-mux-listen', 'vsock-mux-listen:///path_port'),
];

const SSH: Scheme = {
  kindName: 'exec',
  form: 'ssh://[user@]host[:port]/path',
  read: (parts) => (parts.host === '' || isEmptyPath(parts) ? null : sshCommand(parts)),
};

/** The name of a dialled kind without its verb: `unix`, `tty`. */
export const shortName = (kindName: string): string => kindName.replace(/-(?:connect|open)$/, '');

/** By the word before `://`: the name of a kind, its short name, or `ssh`. */
const SCHEMES: ReadonlyMap<string, Scheme> = new Map([
  ...KIND_SCHEMES.flatMap((scheme) =>
    [shortName(scheme.kindName), scheme.kindName].map((word) => [word, scheme] as const),
  ),
  ['ssh', SSH],
]);

/** All words allowed before `://`. */
export const CHANNEL_SCHEMES: readonly string[] = [...SCHEMES.keys()];

/** Parses a URI; null for any other text. Throws `bad-argument` for an invalid URI. */
export function parseChannelUri(text: string): ChannelParts | null {
  const [, name = '', authority = '', rest = ''] = /^([a-z][a-z0-9-]*):\/\/([^/?#]*)((?:[/?#].*)?)$/s.exec(text) ?? [];
  const scheme = SCHEMES.get(name);
  if (scheme === undefined) return null;
  if (/[\u0000-\u0020\u007f#\\]/.test(text)) {
    throw badArgument('a URI cannot contain spaces, control characters, backslashes or #; write %20, %23 and so on');
  }
  if (/,[a-z-]+=/.test(text))
    throw badArgument('the options of a URI follow a question mark, as in ?frame=4096; a comma is %2C');
  const url = parseUrl(name, authority, rest);
  const addressText = url === null ? null : scheme.read(url.parts);
  if (url === null || addressText === null) throw badArgument(`expected ${scheme.form}`);
  return { kindName: scheme.kindName, addressText, options: url.options };
}

function parseUrl(
  name: string,
  authority: string,
  rest: string,
): { readonly parts: UriParts; readonly options: readonly string[] } | null {
  // A URL's port has 16 bits, a vsock port 32; so after a numeric host the port is parsed separately.
  const [, cid, vsockPort] = /^(\d+):(\d+)$/.exec(authority) ?? [];
  try {
    const url = new URL(`${name}://${cid === undefined ? authority : ''}${rest}`);
    const parts = {
      user: decodeURIComponent(url.username),
      host: cid ?? decodeURIComponent(url.hostname),
      port: vsockPort ?? url.port,
      path: decodeURIComponent(url.pathname).replace(/^\/+/, '/'),
    };
    // Host and port names contain no slashes; after the colon of the short form, two would begin a URI again.
    if (parts.host.includes('/')) return null;
    if (url.password !== '') throw badArgument('a password is not allowed in a channel');
    return { parts, options: [...url.searchParams].map(([key, value]) => `${key}=${value}`) };
  } catch (error) {
    if (error instanceof VproxyError) throw error;
    return null;
  }
}

// The command behind `ssh://host/path`: the system's ssh, and socat at its far end. `ssh -W /path` would need no socat,
// but only OpenSSH 9.4 and later take a path there, and `-L` needs a local socket as well, and a wait for it.

/** A unix socket on another machine. */
interface SshTarget {
  /** Empty for the default of ssh's own configuration. */
  readonly user: string;
  /** A name, including ssh's own aliases, or an address; IPv6 in brackets. */
  readonly host: string;
  /** Digits; empty for the default of ssh's own configuration. */
  readonly port: string;
  readonly path: string;
}

/** No prompts, as there is no terminal; and an exit when the network is gone. */
const OPTIONS = '-T -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=10 -o ServerAliveCountMax=3';

/** Builds the shell command; the target is quoted, so that it cannot add words. Throws `bad-argument`. */
function sshCommand({ user, host, port, path }: SshTarget): string {
  const name = host.replace(/^\[(.*)\]$/, '$1');
  if (!HOST.test(name) && !isIPv6(name)) throw badArgument('the host of ssh:// must be a name or an address');
  // Some shells interpret a backslash between quotes.
  if (/[\u0000-\u001f\u007f\\]/.test(user + path))
    throw badArgument('ssh:// cannot contain control characters or backslashes');
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

/** Escapes socat's own syntax: commas begin options, brackets and quotes nest. */
function escapeForSocat(path: string): string {
  return path.replace(/[^A-Za-z0-9_./\-\u0080-\u{10ffff}]/gu, '\\$&');
}
