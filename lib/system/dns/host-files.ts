/** Name configuration of this machine: the servers and domains in /etc/resolv.conf, and the addresses in /etc/hosts. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { type HostPort, isIP } from '../../util/addresses.js';
import type { Clock } from '../../util/clock.js';

const RESOLV_CONF = '/etc/resolv.conf';
const HOSTS = '/etc/hosts';

/** The DNS port. */
export const DNS_PORT = 53;

/** As in resolv.conf(5): further servers are ignored, and the default is this machine. */
export const MAX_SERVERS = 3;
const DEFAULT_SERVER: HostPort = { host: '127.0.0.1', port: DNS_PORT };

/** Limits on search domains, and on `ndots`. */
const MAX_DOMAINS = 6;
const MAX_NDOTS = 15;

/** How often a file is checked for changes, in milliseconds. */
const LOOK_MS = 2000;

/** Bytes read of a file: lists of hosts may be long, but not longer. */
const MAX_FILE_BYTES = 2 ** 22;

interface HostFilesOptions {
  readonly clock: Clock;
  /** Default: the files of this machine. */
  readonly resolvConf?: string;
  readonly hosts?: string;
}

/** Both files, re-read after changes. An unreadable file counts as empty. */
export class HostFiles {
  readonly #resolvConf: WatchedFile<ResolvConf>;
  readonly #hosts: WatchedFile<ReadonlyMap<string, readonly string[]>>;

  constructor({ clock, resolvConf = RESOLV_CONF, hosts = HOSTS }: HostFilesOptions) {
    this.#resolvConf = new WatchedFile(resolvConf, clock, parseResolvConf);
    this.#hosts = new WatchedFile(hosts, clock, parseHosts);
  }

  /** The servers of this machine, in the order in which they are asked. */
  get servers(): readonly HostPort[] {
    return this.#resolvConf.value.servers;
  }

  /** The names to query for a host named by the operator: the `search` domains come first for a name with few dots. */
  candidatesOf(host: string): readonly string[] {
    if (host.endsWith('.')) return [host];
    const { domains, ndots } = this.#resolvConf.value.search;
    const longer = domains.map((domain) => `${host}.${domain}`);
    return host.split('.').length > ndots ? [host, ...longer] : [...longer, host];
  }

  /** The addresses of a lower-case name, of either family; null if /etc/hosts lacks it. */
  addressesOf(host: string): readonly string[] | null {
    return this.#hosts.value.get(host) ?? null;
  }
}

/** The contents of /etc/resolv.conf. */
export interface ResolvConf {
  readonly servers: readonly HostPort[];
  readonly search: SearchList;
}

interface SearchList {
  readonly domains: readonly string[];
  /** A name with fewer dots is tried with the search domains first. */
  readonly ndots: number;
}

/** Parses the text of /etc/resolv.conf. The last `search` or `domain` line counts. */
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
    .flatMap(([host = '']) => (isIP(host) === 0 ? [] : [{ host, port: DNS_PORT }]))
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

/** Parses the text of /etc/hosts into addresses by name. */
export function parseHosts(text: string): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const [address = '', ...names] = line.replace(/#.*/, '').trim().split(/\s+/);
    // An address with a zone is meaningful only on this machine.
    if (isIP(address) === 0 || address.includes('%')) continue;
    for (const name of names) {
      const key = name.toLowerCase().replace(/\.$/, '');
      const addresses = found.get(key);
      if (addresses === undefined) found.set(key, [address]);
      else if (!addresses.includes(address)) addresses.push(address);
    }
  }
  return found;
}

/** The parsed contents of a file, read on demand. */
class WatchedFile<T> {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #parse: (text: string) => T;
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  /** Identifies the version that was read; null if there was no file. */
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
      // The next check reads it again.
      this.#version = null;
    } finally {
      closeSync(fd);
    }
  }
}
