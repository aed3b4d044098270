/** `libvirt:DOMAIN[:PORTNAME][,uri=URI]`: a port of a libvirt domain; virsh(1) is asked for its address at each attempt. */
import os from 'node:os';
import { badArgument, type ErrorCode, toVproxyError, VproxyError } from '../errors.js';
import { type Link, requireWanted } from '../link/link.js';
import { REMEDIES } from '../remedies.js';
import { runTool, type ToolResult } from '../system/processes/run-tool.js';
import { dialableHost, isLoopback, parseHostPort } from '../util/addresses/host-port.js';
import { formatPath, parseSocketPath } from '../util/addresses/paths.js';
import { type Clock, sleep, systemClock } from '../util/clock.js';
import { Turns } from '../util/concurrency.js';
import { escapeText } from '../util/escape.js';
import { parseXml, type XmlElement } from '../util/xml.js';
import { type ChannelLocation, type DialContext, type DialKind, type OptionFor, VM_TRAITS } from './kind.js';
import { pipeOpen } from './pipe-open.js';
import { tcpConnect, unixConnect } from './sockets.js';
import { ttyOpen } from './tty-open.js';

/** A port of a domain. */
export interface LibvirtAddress {
  /** A name, a uuid or an id. */
  readonly domain: string;
  /** The name of the port; null for the one whose name begins with `org.vproxy.`. */
  readonly port: string | null;
  /** The hypervisor; null for virsh's default. */
  readonly uri: string | null;
}

/** Replacements for this machine's virsh and clock. */
interface LibvirtSystem {
  /** The name or the path of virsh. Default `virsh`. */
  readonly virsh?: string;
  /** Default `systemClock`. */
  readonly clock?: Clock;
}

const uriOption: OptionFor<LibvirtAddress> = {
  field: 'uri',
  type: {
    parse: (text) => (isLocalUri(text) ? text : null),
    format: (uri) => uri,
    expected: 'a libvirt URI of this machine, such as qemu:///system',
  },
};

export function libvirtKind({ virsh = 'virsh', clock = systemClock }: LibvirtSystem = {}): DialKind<LibvirtAddress> {
  return {
    mode: 'dial',
    // The type is known only when it is opened, so the traits suit all: sockets, FIFOs and terminals of QEMU.
    traits: VM_TRAITS,
    options: new Map([['uri', uriOption]]),
    parse: parseAddress,
    format: formatAddress,
    place: (address) => `${formatAddress(address)} ${address.uri ?? ''}`,
    locate: (address) => ({ is: 'domain-port', ...address }),
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
          // When a domain starts, its socket exists briefly before libvirt sets its owner.
          await sleep(clock, DENIED_PAUSE_MS, signal);
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

/** The kind `libvirt` with the virsh of this machine. */
export const libvirt: DialKind<LibvirtAddress> = libvirtKind();

function openPort(text: string, name: string | null, context: DialContext): Promise<Link> {
  const { isRunning, ports } = parseDomain(text);
  // The definition of a domain that is shut off has no path, or a stale one.
  if (!isRunning) throw new VproxyError('channel-missing', 'the domain is not running');
  return hostEndOf(choosePort(ports, name)).dial(context);
}

/** The failure of a channel to a domain, as an error. */
export function explain(description: string, error: unknown): VproxyError {
  const { code, message } = toVproxyError(error, 'channel-failed');
  if (code === 'bad-file') {
    return new VproxyError('channel-failed', `${description}: unexpected output of virsh: ${message}`, {
      cause: error,
    });
  }
  return new VproxyError(code, `${description}: ${message}`, { cause: error });
}

/** Splits a text at single colons; `::` is a colon in a part. */
function parseAddress(text: string): LibvirtAddress {
  const parts = [''];
  for (const piece of text.split(/(::?)/)) {
    if (piece === ':') parts.push('');
    else parts.push(`${parts.pop() ?? ''}${piece === '::' ? ':' : piece}`);
  }
  const [domain = '', port, ...others] = parts;
  if (domain === '') throw badArgument('missing domain name, such as libvirt:vm1');
  if (port === '') throw badArgument('missing port name after the colon, such as libvirt:vm1:org.vproxy.0');
  if (others.length > 0) throw badArgument('expected DOMAIN or DOMAIN:PORTNAME; a colon in a name is written ::');
  if (domain.includes('/')) throw badArgument('a domain name cannot contain slashes');
  if (/[\u0000-\u001f\u007f]/.test(text)) throw badArgument('a name cannot contain control characters');
  return { domain, port: port ?? null, uri: null };
}

function formatAddress({ domain, port }: LibvirtAddress): string {
  return (port === null ? [domain] : [domain, port]).map((part) => part.replaceAll(':', '::')).join(':');
}

/** The paths of a domain on another machine mean nothing on this one. */
function isLocalUri(uri: string): boolean {
  const [, host = ''] = /^[a-z][a-z0-9+.-]*:\/\/(?:[^@/?#]*@)?(\[[^\]]*\]|[^:/?#]*)/i.exec(uri) ?? [];
  const isShaped = /^[\u0021-\u007e\u00a0-\u{10ffff}]+$/u.test(uri);
  return isShaped && (host === '' || isLoopback(host.replace(/^\[(.*)\]$/, '$1')));
}

// The host's end of a domain's port, as one of the dialled kinds.

interface HostEnd {
  /** Where it is; null if that is unknown before it is opened. */
  readonly location: ChannelLocation | null;
  readonly dial: (context: DialContext) => Promise<Link>;
}

const hostEnd = <A>(kind: DialKind<A>, address: A): HostEnd => ({
  location: kind.locate?.(address) ?? null,
  dial: (context) => kind.dial(address, context),
});

/**
 * The host's end of a port. Throws `channel-unusable` if it cannot be a channel: QEMU connects by itself, it is not a byte
 * pipe, or it is on another machine.
 */
export function hostEndOf(port: DomainPort): HostEnd {
  const open = SOURCES[port.type];
  if (open === undefined || !Object.hasOwn(SOURCES, port.type)) {
    throw unusable(port, `is of type ${escapeText(port.type, 40)}; supported: ${Object.keys(SOURCES).join(', ')}`);
  }
  return open(port);
}

const SOURCES: Readonly<Record<string, (port: DomainPort) => HostEnd>> = {
  unix(port) {
    const path = read(port, 'path');
    requireBind(port, `unix-listen:${path}`);
    return hostEnd(
      unixConnect,
      parseFor(port, () => parseSocketPath(formatPath(path))),
    );
  },
  tcp(port) {
    const service = read(port, 'service');
    const given = port.source.get('host') ?? '';
    requireBind(port, `tcp-listen:${bracket(given)}:${service}`);
    const protocol = port.source.get('tls') === 'yes' ? 'tls' : port.protocol;
    if (protocol !== 'raw') throw unusable(port, `speaks ${escapeText(protocol, 40)}, which vproxy does not support`);
    const host = dialableHost(given);
    const parsed = parseFor(port, () => parseHostPort(`${bracket(host)}:${service}`));
    // Only a QEMU on this machine is allowed.
    if (!isOwn(host)) throw unusable(port, `is at ${escapeText(host, 80)}, which is not an address of this machine`);
    return hostEnd(tcpConnect, parsed);
  },
  pty: (port) => hostEnd(ttyOpen, { path: read(port, 'path'), baud: null }),
  pipe: (port) => hostEnd(pipeOpen, read(port, 'path')),
};

const bracket = (host: string): string => (host.includes(':') ? `[${host}]` : host);

function isOwn(host: string): boolean {
  const own = Object.values(os.networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address));
  return isLoopback(host) || own.includes(host);
}

function read(port: DomainPort, attribute: string): string {
  const value = port.source.get(attribute) ?? '';
  if (value === '' || value.includes('\0')) throw unusable(port, `of type ${port.type} has no ${attribute}`);
  return value;
}

function requireBind(port: DomainPort, instead: string): void {
  if (port.source.get('mode') === 'bind') return;
  throw unusable(port, `has mode='connect', so QEMU connects and this side must listen: use -c ${escapeText(instead)}`);
}

function parseFor<T>(port: DomainPort, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw unusable(port, `of type ${port.type}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function unusable({ name }: DomainPort, what: string): VproxyError {
  return new VproxyError('channel-unusable', `its port ${escapeText(name, 80)} ${what}`);
}

// The virtio-serial ports in the XML of a libvirt domain.

/** A virtio-serial port of a domain, with QEMU's end. */
export interface DomainPort {
  /** The name that the guest sees. */
  readonly name: string;
  /** The type of the host's end: `unix`, `tcp`, `pty`, `pipe`, `spicevmc`, … */
  readonly type: string;
  /** The attributes of `<source>`: `mode`, `path`, `host`, `service`, … */
  readonly source: ReadonlyMap<string, string>;
  /** The protocol on TCP: `raw`, `telnet`, `tls`, … */
  readonly protocol: string;
}

interface Domain {
  readonly isRunning: boolean;
  /** Ports with a name, in order. */
  readonly ports: readonly DomainPort[];
}

/** Parses the output of `virsh dumpxml`. Throws `bad-file`. */
export function parseDomain(text: string): Domain {
  const root = parseXml(text);
  if (root.name !== 'domain') throw new VproxyError('bad-file', `not <domain> but <${escapeText(root.name, 40)}>`);
  const devices = root.children.filter(({ name }) => name === 'devices').flatMap(({ children }) => children);
  // Only a running domain has a numeric id.
  const id = root.attributes.get('id') ?? '';
  return { isRunning: /^\d+$/.test(id), ports: devices.flatMap(parsePort) };
}

function parsePort(device: XmlElement): DomainPort[] {
  const attributesOf = (name: string) => device.children.find((child) => child.name === name)?.attributes;
  const target = attributesOf('target');
  const name = target?.get('name') ?? '';
  if (device.name !== 'channel' || target?.get('type') !== 'virtio' || name === '') return [];
  const type = device.attributes.get('type') ?? '';
  const source = attributesOf('source') ?? new Map<string, string>();
  return [{ name, type, source, protocol: attributesOf('protocol')?.get('type') ?? 'raw' }];
}

// Choosing the virtio-serial port of a domain.

/** Ports with this prefix are vproxy's by default. */
const OWN_PREFIX = 'org.vproxy.';

/**
 * The port of that name; for null, the only one whose name begins with `org.vproxy.`. Throws `channel-missing` if there is
 * none, `channel-unusable` if there are several.
 */
export function choosePort(ports: readonly DomainPort[], name: string | null): DomainPort {
  const fitting = ports.filter((port) => (name === null ? port.name.startsWith(OWN_PREFIX) : port.name === name));
  const [port] = fitting;
  if (port !== undefined && fitting.length === 1) return port;
  const wanted = name === null ? `whose name begins with ${OWN_PREFIX}` : `"${escapeText(name, 80)}"`;
  const there = ports.length === 0 ? 'none' : list(port === undefined ? ports : fitting);
  if (port === undefined) {
    throw new VproxyError('channel-missing', `the domain has no virtio port ${wanted}; it has: ${there}`);
  }
  throw new VproxyError('channel-unusable', `the domain has several virtio ports ${wanted}; choose one: ${there}`);
}

function list(ports: readonly DomainPort[]): string {
  const names = ports.slice(0, MAX_LISTED).map((port) => escapeText(port.name, 80));
  return [...names, ...(ports.length > MAX_LISTED ? ['…'] : [])].join(', ');
}

const MAX_LISTED = 16;

// Asking virsh(1) for the XML of a domain.

interface VirshOptions {
  /** Kills virsh when aborted, which rejects with `shutdown`. */
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /** The name or the path of virsh. */
  readonly program: string;
  /** The hypervisor, such as `qemu:///system`; null for virsh's default. */
  readonly uri: string | null;
}

const TIMEOUT_MS = 10_000;
const MAX_XML_BYTES = 1_048_576;

/** Limits parallel runs: with hundreds of domains, as many virsh processes of about 20 MB each would start together. */
const turns = new Turns(4);

/**
 * The current XML of a domain, by name, uuid or id. Rejects with `channel-missing` (no such domain), `channel-refused` (no
 * libvirtd), `channel-denied`, `channel-unusable` (no virsh), or `channel-failed`: no answer within 10 s, more than 1 MiB of
 * output, or any other error of virsh.
 */
export function dumpDomain(domain: string, options: VirshOptions): Promise<string> {
  const { program, uri, signal, clock } = options;
  const connect = uri === null ? [] : [`--connect=${uri}`];
  const words = ['/usr/bin/env', 'LC_ALL=C', program, '--readonly', ...connect, 'dumpxml', '--', domain];
  const limits = { signal, clock, timeoutMs: TIMEOUT_MS, maxBytes: MAX_XML_BYTES };
  return turns.run(signal, async () => {
    const result = await runTool(words, limits);
    if (result.end === 0) return result.stdout;
    throw virshError(result, options);
  });
}

function virshError({ end, stderr }: ToolResult, { program, uri }: VirshOptions): VproxyError {
  const failed = (code: ErrorCode, what: string) => new VproxyError(code, what);
  const advised = (code: VirshCode, what: string) => failed(code, `${what}; ${REMEDIES.virsh[code]}`);
  if (end === 'given-up') return failed('shutdown', 'virsh was cancelled');
  if (end === 'too-slow') return failed('channel-failed', `no answer from virsh within ${TIMEOUT_MS / 1000} s`);
  if (end === 'too-long') return failed('channel-failed', `virsh printed more than ${MAX_XML_BYTES} bytes`);
  // The statuses of env(1) for a missing program, and for one that cannot be run.
  if (end === 127) return advised('channel-unusable', `${escapeText(program)} is missing`);
  if (end === 126) return advised('channel-unusable', `${escapeText(program)} cannot be run`);
  const said = joinErrors(stderr);
  if (said === '') return failed('channel-failed', `virsh exited with ${end} and no output`);
  const code = MEANINGS.find(({ pattern }) => pattern.test(said))?.code ?? 'channel-failed';
  const isClear = code === 'channel-failed' || (code === 'channel-missing' && uri !== null);
  return (isClear ? failed : advised)(code, `virsh: ${escapeText(said, 400)}`);
}

type VirshCode = keyof (typeof REMEDIES)['virsh'];

/** Messages of virsh with LC_ALL=C; the first match counts. */
const MEANINGS: readonly { readonly pattern: RegExp; readonly code: VirshCode }[] = [
  { pattern: /^failed to get domain |^Domain not found/, code: 'channel-missing' },
  {
    pattern: /permission denied|access denied|authentication (?:failed|unavailable|cancelled)|not authorized/i,
    code: 'channel-denied',
  },
  {
    pattern: /^failed to connect to the hypervisor|Failed to connect socket|Connection refused/,
    code: 'channel-refused',
  },
];

function joinErrors(stderr: string): string {
  const lines = stderr.split('\n').map((line) => line.trim().replace(/^error: */, ''));
  return lines.filter((line) => line !== '').join(': ');
}
