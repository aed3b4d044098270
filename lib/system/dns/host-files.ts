/** What the files of this machine say of names: the servers and domains of /etc/resolv.conf, and the addresses of /etc/hosts. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import net from 'node:net';
import type { HostPort } from '../../util/addresses.js';
import type { Clock } from '../../util/clock.js';

const RESOLV_CONF = '/etc/resolv.conf';
const HOSTS = '/etc/hosts';

/** The port of DNS. */
export const DNS_PORT = 53;

/** As resolv.conf(5) has it: further servers are not asked, and without one it is this machine. */
export const MAX_SERVERS = 3;
const DEFAULT_SERVER: HostPort = { host: '127.0.0.1', port: DNS_PORT };

/** Domains of the search list that count, and dots in a name that `ndots` can ask for. */
const MAX_DOMAINS = 6;
const MAX_NDOTS = 15;

/** A file is looked at again after this time. */
const LOOK_MS = 2000;

/** What is read of a file: lists of hosts may be long, but no longer. */
const MAX_FILE_BYTES = 2 ** 22;

interface HostFilesOptions {
  readonly clock: Clock;
  /** Default: those of this machine. */
  readonly resolvConf?: string;
  readonly hosts?: string;
}

/** Both files, read anew where they have changed. One that cannot be read is empty. */
export class HostFiles {
  readonly #resolvConf: WatchedFile<ResolvConf>;
  readonly #hosts: WatchedFile<ReadonlyMap<string, readonly string[]>>;

  constructor({ clock, resolvConf = RESOLV_CONF, hosts = HOSTS }: HostFilesOptions) {
    this.#resolvConf = new WatchedFile(resolvConf, clock, parseResolvConf);
    this.#hosts = new WatchedFile(hosts, clock, parseHosts);
  }

  /** Whom this machine asks, in order. */
  get servers(): readonly HostPort[] {
    return this.#resolvConf.value.servers;
  }

  /** What this machine asks for a name of its operator: one with few dots with the domains of `search` first, others as they are. */
  candidatesOf(host: string): readonly string[] {
    if (host.endsWith('.')) return [host];
    const { domains, ndots } = this.#resolvConf.value.search;
    const longer = domains.map((domain) => `${host}.${domain}`);
    return host.split('.').length > ndots ? [host, ...longer] : [...longer, host];
  }

  /** The addresses of a name in lower case, of either family; null where /etc/hosts has none. */
  addressesOf(host: string): readonly string[] | null {
    return this.#hosts.value.get(host) ?? null;
  }
}

/** What /etc/resolv.conf says. */
export interface ResolvConf {
  readonly servers: readonly HostPort[];
  readonly search: SearchList;
}

interface SearchList {
  readonly domains: readonly string[];
  /** A name with fewer dots is tried with the domains first. */
  readonly ndots: number;
}

/** Reads a text as /etc/resolv.conf has it. Of `search` and `domain` the last line counts. */
export function parseResolvConf(text: string): ResolvConf {
  const lines = text.split('\n').map((line) =>
    line
      .replace(/[#;].*/, '')
      .trimEnd()
      .split(/[ \t]+/),
  );
  const valuesOf = (...keys: string[]): string[][] =>
    lines.flatMap(([key = '', ...rest]) => (keys.includes(key) ? [rest] : []));
  const servers = valuesOf('nameserver')
    .flatMap(([host = '']) => (net.isIP(host) === 0 ? [] : [{ host, port: DNS_PORT }]))
    .slice(0, MAX_SERVERS);
  const domains = (valuesOf('search', 'domain').at(-1) ?? []).map((domain) => domain.replace(/\.$/, ''));
  const ndots = valuesOf('options')
    .flat()
    .flatMap((option) => /^ndots:(\d+)$/.exec(option)?.[1] ?? [])
    .at(-1);
  return {
    servers: servers.length === 0 ? [DEFAULT_SERVER] : servers,
    search: {
      domains: domains.filter((domain) => domain !== '').slice(0, MAX_DOMAINS),
      ndots: Math.min(Number(ndots ?? 1), MAX_NDOTS),
    },
  };
}

/** The addresses by name of a text as /etc/hosts has it. */
export function parseHosts(text: string): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const [address = '', ...names] = line.replace(/#.*/, '').trim().split(/\s+/);
    // An address with a zone means something to this machine only.
    if (net.isIP(address) === 0 || address.includes('%')) continue;
    for (const name of names) {
      const key = name.toLowerCase().replace(/\.$/, '');
      const addresses = found.get(key);
      if (addresses === undefined) found.set(key, [address]);
      else if (!addresses.includes(address)) addresses.push(address);
    }
  }
  return found;
}

/** What a file says, read when it is asked for. */
class WatchedFile<T> {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #parse: (text: string) => T;
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  /** What tells the version that was read from another one; null: there was none. */
  #version: string | null = null;
  #value: T;

  constructor(path: string, clock: Clock, parse: (text: string) => T) {
    this.#path = path;
    this.#clock = clock;
    this.#parse = parse;
    this.#value = parse('');
  }

  get value(): T {
    const nowMs = this.#clock.now();
    if (nowMs - this.#lookedAtMs >= LOOK_MS) {
      this.#lookedAtMs = nowMs;
      this.#look();
    }
    return this.#value;
  }

  #look(): void {
    let fd: number;
    try {
      fd = openSync(this.#path, 'r');
    } catch {
      this.#version = null;
      this.#value = this.#parse('');
      return;
    }
    try {
      const { ino, size, mtimeMs } = fstatSync(fd);
      const version = `${ino} ${size} ${mtimeMs}`;
      if (version === this.#version) return;
      const bytes = Buffer.alloc(Math.min(size, MAX_FILE_BYTES));
      const count = readSync(fd, bytes, 0, bytes.length, 0);
      this.#value = this.#parse(bytes.toString('latin1', 0, count));
      this.#version = version;
    } catch {
      // It is read again with the next look.
      this.#version = null;
    } finally {
      closeSync(fd);
    }
  }
}
