/** Resource records: types, and the layout of their data, which may contain compressed domain names. */
import { orElse } from '../../util/or-else.js';
import { type DomainName, MessageWriter, malformed, readName } from './domain-names.js';

/** Types by name (IANA registry); all others are passed on as well. */
export const RECORD_TYPE = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  HINFO: 13,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  NAPTR: 35,
  DNAME: 39,
  OPT: 41,
  DS: 43,
  SSHFP: 44,
  RRSIG: 46,
  NSEC: 47,
  DNSKEY: 48,
  NSEC3: 50,
  TLSA: 52,
  SVCB: 64,
  HTTPS: 65,
  IXFR: 251,
  AXFR: 252,
  ANY: 255,
  URI: 256,
  CAA: 257,
} as const;

const TYPE_NAMES = new Map<number, string>(Object.entries(RECORD_TYPE).map(([name, type]) => [type, name]));

/** The name of a type; `TYPE123` for one without (RFC 3597, section 5). */
export const typeName = (type: number): string => TYPE_NAMES.get(type) ?? `TYPE${type}`;

/** The class IN, that of all records here. */
export const CLASS_IN = 1;

/** A record of class IN. */
export interface DnsRecord {
  readonly name: DomainName;
  readonly type: number;
  /** In seconds. */
  readonly ttl: number;
  /** Without compression. */
  readonly data: Buffer;
}

/** A number: that many bytes. `name`: may be compressed, also when written. `bare`: may be compressed, but is written in full. */
type Part = number | 'name' | 'bare' | 'string' | 'rest';

/**
 * The data layouts of types: those of RFC 1035, section 3.3, whose names are compressed, and those of RFC 3597, section 4, whose
 * names are decompressed when read but never compressed. The data of all other types is opaque.
 */
const LAYOUTS: ReadonlyMap<number, readonly Part[]> = new Map<number, readonly Part[]>([
  [RECORD_TYPE.A, [4]],
  [RECORD_TYPE.AAAA, [16]],
  // NS, MD, MF, CNAME, MB, MG, MR, PTR
  ...[2, 3, 4, 5, 7, 8, 9, 12].map((type) => [type, ['name']] as const),
  [RECORD_TYPE.SOA, ['name', 'name', 20]],
  // MINFO
  [14, ['name', 'name']],
  [RECORD_TYPE.MX, [2, 'name']],
  // RP
  [17, ['bare', 'bare']],
  // AFSDB, RT, KX
  ...[18, 21, 36].map((type) => [type, [2, 'bare']] as const),
  // SIG
  [24, [18, 'bare', 'rest']],
  // PX
  [26, [2, 'bare', 'bare']],
  // NXT
  [30, ['bare', 'rest']],
  [RECORD_TYPE.SRV, [6, 'bare']],
  [RECORD_TYPE.NAPTR, [4, 'string', 'string', 'string', 'bare']],
  [RECORD_TYPE.DNAME, ['bare']],
]);

const ONE_PIECE: readonly Part[] = ['rest'];

/** The parts of the data at `start`; the last one must end at `end`. Throws `protocol-error` if it does not. */
function* partsOf(message: Buffer, type: number, start: number, end: number) {
  let at = start;
  for (const part of LAYOUTS.get(type) ?? ONE_PIECE) {
    const from = at;
    const name = part === 'name' || part === 'bare' ? readName(message, at) : null;
    if (name !== null) at = name.end;
    else if (part === 'string') at += 1 + (message[at] ?? 0);
    else at = typeof part === 'number' ? at + part : end;
    if (at > end) break;
    yield { bytes: name?.name ?? message.subarray(from, at), isCompressed: part === 'name' };
  }
  if (at !== end) throw malformed('record data does not match its type');
}

/** The data of the record in `message[start, end)`, decompressed. Throws `protocol-error`. */
export function readData(message: Buffer, type: number, start: number, end: number): Buffer {
  return Buffer.concat([...partsOf(message, type, start, end)].map(({ bytes }) => bytes));
}

export function writeData(writer: MessageWriter, type: number, data: Buffer): void {
  for (const { bytes, isCompressed } of partsOf(data, type, 0, data.length)) {
    if (isCompressed) writer.name(bytes);
    else writer.bytes(bytes);
  }
}

/** The TTL of negative answers given by an SOA record (RFC 2308, section 4), in seconds. */
export const negativeTtlOf = (soa: DnsRecord): number => Math.min(soa.ttl, soa.data.readUInt32BE(soa.data.length - 4));

// Addresses in records.

/** SVCB and HTTPS parameters that hold addresses: their keys, and the length of an address (RFC 9460, section 7.3). */
const HINTS: ReadonlyMap<number, number> = new Map([
  [4, 4],
  [6, 16],
]);

/** The addresses in a record, as 4 or 16 bytes each: its data, or the hints of SVCB and HTTPS; null if those are malformed. */
export function addressesIn({ type, data }: DnsRecord): readonly Buffer[] | null {
  if (type === RECORD_TYPE.A || type === RECORD_TYPE.AAAA) return [data];
  if (type !== RECORD_TYPE.SVCB && type !== RECORD_TYPE.HTTPS) return [];
  return orElse(null, () => readHints(data));
}

/** Throws a Buffer's out-of-range error, or `protocol-error`. */
function readHints(data: Buffer): Buffer[] {
  const addresses: Buffer[] = [];
  let at = readName(data, 2).end;
  while (at < data.length) {
    const key = data.readUInt16BE(at);
    const value = data.subarray(at + 4, at + 4 + data.readUInt16BE(at + 2));
    if (value.length !== data.readUInt16BE(at + 2)) throw malformed('truncated parameter');
    const length = HINTS.get(key) ?? 0;
    if (length > 0 && value.length % length !== 0) throw malformed('truncated address');
    for (let from = 0; length > 0 && from < value.length; from += length)
      addresses.push(value.subarray(from, from + length));
    at += 4 + value.length;
  }
  return addresses;
}
