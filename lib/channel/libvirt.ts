/** `libvirt:DOMAIN[:PORTNAME][,uri=URI]`: a port of a libvirt domain, whose place virsh(1) is asked for each time. */
import { toVproxyError, VproxyError } from '../errors.js';
import { type Clock, systemClock } from '../util/clock.js';
import { deferred } from '../util/deferred.js';
import { escapeText } from '../util/escape.js';
import { isLoopback } from '../util/host-port.js';
import { requireWanted } from './channel-error.js';
import type { DialContext, DialKind, KindOption } from './kind.js';
import { parseDomain } from './libvirt-domain.js';
import { choosePort } from './libvirt-port.js';
import { dialPort } from './libvirt-source.js';
import type { Link } from './link.js';
import { VM_TRAITS } from './traits.js';
import { dumpDomain } from './virsh.js';

/** A port of a domain. */
export interface LibvirtAddress {
  /** A name, a uuid or an id. */
  readonly domain: string;
  /** The name of the port; null: the one whose name begins with `org.vproxy.`. */
  readonly port: string | null;
  /** The hypervisor; null: what virsh asks by itself. */
  readonly uri: string | null;
}

/** What a test gives in the place of the system. */
export interface LibvirtSystem {
  /** The name or the path of virsh. Default `virsh`. */
  readonly virsh?: string;
  /** Default `systemClock`. */
  readonly clock?: Clock;
}

const uriOption: KindOption<LibvirtAddress> = {
  parse: (value, address) => (isLocalUri(value) ? { ...address, uri: value } : null),
  format: ({ uri }) => uri,
  expected: 'a libvirt URI of this machine, such as qemu:///system',
};

/** The kind `libvirt`. */
export function libvirtKind({ virsh = 'virsh', clock = systemClock }: LibvirtSystem = {}): DialKind<LibvirtAddress> {
  return {
    mode: 'dial',
    // Which of them it is shows only when it is opened, so it has what suits all: sockets, FIFOs and terminals of QEMU.
    traits: { ...VM_TRAITS, outlivesRestart: true },
    options: new Map([['uri', uriOption]]),
    parse: parseAddress,
    format: formatAddress,
    async dial(address, context) {
      const { signal } = context;
      const description = `libvirt:${escapeText(formatAddress(address))}`;
      requireWanted(signal, description);
      const open = async () => {
        const { domain, uri, port } = address;
        return openPort(await dumpDomain(domain, { signal, clock, program: virsh, uri }), port, context);
      };
      try {
        return await open().catch(async (error: unknown) => {
          if (toVproxyError(error).code !== 'channel-denied') throw error;
          // When a domain starts, its socket is there for a moment before libvirt gives it away.
          await pause(DENIED_PAUSE_MS, clock, signal);
          return open();
        });
      } catch (error) {
        requireWanted(signal, description);
        throw explain(description, error);
      }
    },
  };
}

const DENIED_PAUSE_MS = 1000;

/** Ends early when `signal` is aborted. */
async function pause(ms: number, clock: Clock, signal: AbortSignal): Promise<void> {
  const over = deferred();
  const cancel = clock.schedule(ms, () => over.resolve());
  const giveUp = () => over.resolve();
  signal.addEventListener('abort', giveUp);
  if (signal.aborted) giveUp();
  await over.promise;
  cancel();
  signal.removeEventListener('abort', giveUp);
}

/** The kind `libvirt` with the virsh of this machine. */
export const libvirt: DialKind<LibvirtAddress> = libvirtKind();

function openPort(text: string, name: string | null, context: DialContext): Promise<Link> {
  const { isRunning, ports } = parseDomain(text);
  // The definition of a domain that is shut off names no place, or one of the past.
  if (!isRunning) throw new VproxyError('channel-missing', 'the domain is not running');
  return dialPort(choosePort(ports, name))(context);
}

function explain(description: string, error: unknown): VproxyError {
  const { code, message } = toVproxyError(error, 'channel-failed');
  if (code === 'bad-file') {
    return new VproxyError('channel-failed', `${description}: what virsh printed: ${message}`, { cause: error });
  }
  return new VproxyError(code, `${description}: ${message}`, { cause: error });
}

/** The parts of a text between single colons; `::` is a colon in a part. */
function parseAddress(text: string): LibvirtAddress {
  const parts = [''];
  for (const piece of text.split(/(::?)/)) {
    if (piece === ':') parts.push('');
    else parts.push(`${parts.pop() ?? ''}${piece === '::' ? ':' : piece}`);
  }
  const [domain = '', port, ...others] = parts;
  if (domain === '') throw bad('the name of a domain is missing, such as libvirt:vm1');
  if (port === '') throw bad('the name of a port is missing behind the colon, such as libvirt:vm1:org.vproxy.0');
  if (others.length > 0) throw bad('expected DOMAIN or DOMAIN:PORTNAME; a colon in a name is written ::');
  if (domain.includes('/')) throw bad('the name of a domain has no slashes');
  if (/[\u0000-\u001f\u007f]/.test(text)) throw bad('a name has no control characters');
  return { domain, port: port ?? null, uri: null };
}

function formatAddress({ domain, port }: LibvirtAddress): string {
  return (port === null ? [domain] : [domain, port]).map((part) => part.replaceAll(':', '::')).join(':');
}

/** What a domain of another machine says of paths is not for this one. */
function isLocalUri(uri: string): boolean {
  const [, host = ''] = /^[a-z][a-z0-9+.-]*:\/\/(?:[^@/?#]*@)?(\[[^\]]*\]|[^:/?#]*)/i.exec(uri) ?? [];
  const isShaped = /^[\u0021-\u007e\u00a0-\u{10ffff}]+$/u.test(uri);
  return isShaped && (host === '' || isLoopback(host.replace(/^\[(.*)\]$/, '$1')));
}

function bad(what: string): VproxyError {
  return new VproxyError('bad-argument', what);
}
