/**
 * Resolves names from the hosts file, then from this machine's name servers, over sockets. `getaddrinfo` holds one of the few
 * threads of the process while a server is silent, and asks for names that no rule has judged (`search` of resolv.conf).
 */
import dgram from 'node:dgram';
import { once } from 'node:events';
import type { LookupFunction } from 'node:net';
import { systemCode } from '../../errors.js';
import { formatAddress, type HostPort, isIP } from '../../util/addresses/host-port.js';
import { systemClock } from '../../util/clock.js';
import { LoopTurns } from '../../util/concurrency.js';
import { RCODE } from './dns-message.js';
import { type DomainName, parseName } from './domain-names.js';
import { hostFiles as files } from './host-files.js';
import { askServer, openServerSocket, ROUNDS } from './name-servers.js';
import { CLASS_IN, RECORD_TYPE } from './resource-records.js';

/** Limit on addresses per family. */
const MAX_ADDRESSES = 16;

/**
 * The addresses of exactly this name, in system order. Rejects with the codes of `getaddrinfo`, ENOTFOUND and EAI_AGAIN, or with
 * `signal.reason`; nothing is left open then.
 */
export async function lookUpName(name: string, signal: AbortSignal): Promise<readonly string[]> {
  await files.refresh();
  return inOrder(knownAddresses(name) ?? (await askServers(name, signal)));
}

/** The same for a host named by the operator, to which the search domains of resolv.conf apply. */
export async function lookUpHost(host: string, signal: AbortSignal): Promise<readonly string[]> {
  await files.refresh();
  const known = knownAddresses(host);
  if (known !== null) return inOrder(known);
  let problem = failure('ENOTFOUND', host);
  for (const name of files.candidatesOf(host)) {
    try {
      return await inOrder(await askServers(name, signal));
    } catch (error) {
      if (signal.aborted || systemCode(error) !== 'ENOTFOUND') throw error;
      problem = failure('ENOTFOUND', host);
    }
  }
  throw problem;
}

/** Look-ups in progress: callers that need the same host share the answer, so many streams to it cost one look-up. */
const underWay = new Map<string, Promise<readonly string[]>>();

/** `lookUpHost`, at most one at a time for each host. */
export function shareLookUp(host: string): Promise<readonly string[]> {
  const known = underWay.get(host);
  if (known !== undefined) return known;
  const found = lookUpHost(host, new AbortController().signal).finally(() => underWay.delete(host));
  underWay.set(host, found);
  return found;
}

/** `shareLookUp` in the form that `net.connect` takes. */
export const lookup: LookupFunction = (host, { all }, callback) => {
  const found = (addresses: readonly string[]): void => {
    const [first = ''] = addresses;
    if (all === true)
      callback(
        null,
        addresses.map((address) => ({ address, family: isIP(address) })),
      );
    else callback(null, first, isIP(first));
  };
  // Not all in one callback: the descriptor of each socket is checked before the next one is opened.
  const foundLater = (addresses: readonly string[]): void => void setImmediate(found, addresses);
  shareLookUp(host).then(foundLater, (error: unknown) => callback(error as NodeJS.ErrnoException, ''));
};

function failure(code: 'ENOTFOUND' | 'EAI_AGAIN', name: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`looking up ${name}: ${code}`), { code });
}

/** Names known without a query: those in the hosts file, with no other addresses, and this machine's (RFC 6761, section 6.3). */
function knownAddresses(name: string): readonly string[] | null {
  const key = name.toLowerCase().replace(/\.$/, '');
  const local = key === 'localhost' || key.endsWith('.localhost') ? ['::1', '127.0.0.1'] : null;
  return files.addressesOf(key) ?? local;
}

/** Asks the servers in turn; failed ones are asked again after all others. */
async function askServers(host: string, signal: AbortSignal): Promise<readonly string[]> {
  const name = parseName(host);
  if (name === null) throw failure('ENOTFOUND', host);
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const server of files.servers) {
      const addresses = await addressesAt(server, name, signal);
      signal.throwIfAborted();
      if (addresses === null) continue;
      if (addresses.length === 0) throw failure('ENOTFOUND', host);
      return addresses;
    }
  }
  throw failure('EAI_AGAIN', host);
}

/** Each socket costs about 0.1 ms, and many look-ups may fail or be answered in the same turn of the event loop. */
const turns = new LoopTurns();

/** A server's addresses for a name; null if it did not answer. */
async function addressesAt(server: HostPort, name: DomainName, signal: AbortSignal): Promise<string[] | null> {
  const shared = await turns.run(() => openServerSocket(server));
  const ask = async (type: number): Promise<string[]> => {
    const question = { name, type, class: CLASS_IN, wantsDnssec: false, isUnchecked: false };
    const { answers, rcode } = await askServer(server, question, { clock: systemClock, shared, signal, turns });
    if (rcode !== RCODE.NOERROR && rcode !== RCODE.NXDOMAIN) throw new Error(`the server answered with code ${rcode}`);
    const found = answers.filter((record) => record.type === type).slice(0, MAX_ADDRESSES);
    return found.map(({ data }) => formatAddress(data));
  };
  const answers = await Promise.allSettled([ask(RECORD_TYPE.AAAA), ask(RECORD_TYPE.A)]);
  shared.socket.close();
  const addresses = answers.flatMap((one) => (one.status === 'fulfilled' ? one.value : []));
  const hasSaid = answers.every(({ status }) => status === 'fulfilled');
  return hasSaid || addresses.length > 0 ? addresses : null;
}

// The order of addresses: rules 1, 5 and 6 of RFC 6724, section 6, with the table of glibc.

/** Kinds of addresses by prefix, first match wins; the lowest rank is tried first. */
const KINDS: readonly (readonly [RegExp, rank: number])[] = [
  [/^::1$/, 0],
  [/^2002:/, 2],
  [/^2001:0?:/, 1],
  [/^f[cd]/, 1],
  [/:/, 1],
  [/^/, 3],
];

/** Penalties added to a rank, above any in `KINDS`: the source address would be of another kind; there is no route. */
const OTHER_KIND = 10;
const NO_WAY = 20;

const kindOf = (address: string) => KINDS.find(([beginning]) => beginning.test(address));

/** Sorts addresses of several kinds; those of one kind keep their order. */
async function inOrder(addresses: readonly string[]): Promise<readonly string[]> {
  if (new Set(addresses.map(kindOf)).size < 2) return addresses;
  const ranked: { address: string; rank: number }[] = [];
  for (const address of addresses) {
    const kind = kindOf(address);
    const source = await turns.run(() => sourceOf(address));
    const penalty = source === null ? NO_WAY : kindOf(source) === kind ? 0 : OTHER_KIND;
    ranked.push({ address, rank: (kind?.[1] ?? 0) + penalty });
  }
  return ranked.sort((a, b) => a.rank - b.rank).map(({ address }) => address);
}

/** The local address that would be used to connect to an address; null without a route. Asks the system, and sends nothing. */
async function sourceOf(address: string): Promise<string | null> {
  const family = isIP(address);
  const socket = dgram.createSocket({
    type: family === 6 ? 'udp6' : 'udp4',
    lookup: (host, _, callback) => callback(null, host, family),
  });
  try {
    const connected = once(socket, 'connect');
    socket.connect(DISCARD_PORT, address);
    await connected;
    return socket.address().address;
  } catch {
    return null;
  } finally {
    socket.close();
  }
}

const DISCARD_PORT = 9;
