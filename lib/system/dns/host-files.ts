/** Name configuration of this machine: the servers and domains in /etc/resolv.conf, and the addresses in /etc/hosts. */
import { statSync } from 'node:fs';
import { systemCode } from '../../errors.js';
import { type HostPort, isIP } from '../../util/addresses/host-port.js';
import { type Clock, systemClock } from '../../util/clock.js';
import { LoopTurns } from '../../util/concurrency.js';
import { wholeLines } from '../files/whole-lines.js';

const RESOLV_CONF = '/etc/resolv.conf';
const HOSTS = '/etc/hosts';

export const DNS_PORT = 53;

/** As in resolv.conf(5): further servers are ignored, and the default is this machine. */
export const MAX_SERVERS = 3;
const DEFAULT_SERVER: HostPort = { host: '127.0.0.1', port: DNS_PORT };

/** Limits on search domains, and on `ndots`. */
const MAX_DOMAINS = 6;
const MAX_NDOTS = 15;

/** How often a file is checked for changes, in milliseconds. */
const LOOK_MS = 2000;

/** Bytes read of each file: lists of hosts may be long, but not longer. */
const MAX_HOSTS_BYTES = 2 ** 22;
const MAX_CONF_BYTES = 2 ** 15;

/** Limit on addresses of one name in the hosts file. */
const MAX_ADDRESSES = 64;

interface HostFilesOptions {
  readonly clock: Clock;
  /** Default: the files of this machine. */
  readonly resolvConf?: string;
  readonly hosts?: string;
}

/** Both files, re-read in turns of the event loop after either has changed. A missing file is empty. */
export class HostFiles {
  readonly #options: Required<HostFilesOptions>;
  readonly #turns = new LoopTurns();
  readonly #cut = new Set<string>();
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  /** Identifies the versions that were read. */
  #version = '';
  #reading: Promise<void> | null = null;
  #resolvConf = parseResolvConf('');
  /** One for each block: a single one of a long file would hold up the loop when it grows. */
  #tables: readonly HostTable[] = [];
  /** A file is too long; called once for each. Default: no callback. */
  onCut: (problem: string, path: string) => void = () => undefined;

  constructor({ clock, resolvConf = RESOLV_CONF, hosts = HOSTS }: HostFilesOptions) {
    this.#options = { clock, resolvConf, hosts };
  }

  /** Await it before using the files: looks whether they have changed. Null if they have not; never rejects. */
  refresh(): Promise<void> | null {
    const { clock, hosts, resolvConf } = this.#options;
    const nowMs = clock.now();
    if (this.#reading !== null || nowMs - this.#lookedAtMs < LOOK_MS) return this.#reading;
    this.#lookedAtMs = nowMs;
    const version = `${versionOf(resolvConf)}, ${versionOf(hosts)}`;
    if (version === this.#version) return null;
    this.#version = version;
    // After a failure, what was read before counts, and the next look tries again.
    const retry = (): void => void (this.#version = '');
    this.#reading = this.#read()
      .catch(retry)
      .finally(() => (this.#reading = null));
    return this.#reading;
  }

  async #read(): Promise<void> {
    const tables: HostTable[] = [];
    let text = '';
    for await (const lines of this.#linesOf(this.#options.resolvConf, MAX_CONF_BYTES)) text += lines;
    for await (const lines of this.#linesOf(this.#options.hosts, MAX_HOSTS_BYTES))
      tables.push(await this.#parse(lines));
    this.#resolvConf = parseResolvConf(text);
    this.#tables = tables;
  }

  async *#linesOf(path: string, maxBytes: number): AsyncGenerator<string> {
    const onCut = (): void => {
      const problem = `${path}: too long (max ${maxBytes} bytes, 32768 a line); the rest is ignored`;
      if (!this.#cut.has(path)) this.onCut(problem, path);
      this.#cut.add(path);
    };
    try {
      yield* wholeLines(path, { maxBytes, onCut });
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
    }
  }

  /** Parses lines of /etc/hosts into addresses by name. */
  async #parse(lines: string): Promise<HostTable> {
    const table: HostTable = new Map();
    // One array for lines of the same address: what a garbage collection takes depends on the objects that are kept.
    let alone: readonly string[] = [];
    for (const line of lines.split('\n')) {
      const turn = this.#turns.nextTurn();
      if (turn !== null) await turn;
      const [address = '', ...names] = line.replace(/#.*/, '').trim().split(/\s+/);
      // An address with a zone is meaningful only on this machine.
      if (isIP(address) === 0 || address.includes('%')) continue;
      if (alone[0] !== address) alone = [address];
      for (const name of names) {
        const key = name.toLowerCase().replace(/\.$/, '');
        const known = table.get(key);
        if (known === undefined) table.set(key, alone);
        else if (known.length < MAX_ADDRESSES && !known.includes(address)) table.set(key, [...known, address]);
      }
    }
    return table;
  }

  /** The servers of this machine, in the order in which they are asked. */
  get servers(): readonly HostPort[] {
    return this.#resolvConf.servers;
  }

  /** The names to query for a host named by the operator: the `search` domains come first for a name with few dots. */
  candidatesOf(host: string): readonly string[] {
    if (host.endsWith('.')) return [host];
    const { domains, ndots } = this.#resolvConf.search;
    const longer = domains.map((domain) => `${host}.${domain}`);
    return host.split('.').length > ndots ? [host, ...longer] : [...longer, host];
  }

  /** The addresses of a lower-case name, of either family; null if /etc/hosts lacks it. */
  addressesOf(host: string): readonly string[] | null {
    const found = new Set(this.#tables.flatMap((table) => table.get(host) ?? []));
    return found.size === 0 ? null : [...found].slice(0, MAX_ADDRESSES);
  }
}

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
  const lines = (text.match(/^(?:nameserver|search|domain|options)[ \t].*/gm) ?? []).map((line) =>
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

/** Addresses by lower-case name. */
type HostTable = Map<string, readonly string[]>;

function versionOf(path: string): string {
  try {
    const { ino, size, mtimeMs } = statSync(path);
    return `${ino} ${size} ${mtimeMs}`;
  } catch {
    return '';
  }
}

/** The files of this machine, parsed once for the whole process. */
export const hostFiles = new HostFiles({ clock: systemClock });
