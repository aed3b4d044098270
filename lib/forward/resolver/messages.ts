/** Messages of DNS: bytes ⇄ values (RFC 1035, section 4; EDNS, RFC 6891; extended errors, RFC 8914). Strict: a message is understood whole, or not at all. */
import { type DomainName, keyOf, MessageWriter, malformed, readName } from './names.js';
import { CLASS_IN, type DnsRecord, RECORD_TYPE, readData, writeData } from './records.js';

/** The codes of answers that are used here (RFC 1035, section 4.1.1; BADVERS: RFC 6891, section 9). */
export const RCODE = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5, BADVERS: 16 } as const;

/** The codes of extended errors that are made here (RFC 8914, section 4). */
export const EXTENDED_ERROR = { BLOCKED: 15, PROHIBITED: 18, NOT_SUPPORTED: 21, NETWORK_ERROR: 23 } as const;

export interface DnsQuestion {
  readonly name: DomainName;
  readonly type: number;
  readonly class: number;
}

/** Why an answer is as it is. */
export interface ExtendedError {
  readonly code: number;
  /** For people; may be empty. */
  readonly text: string;
}

/** What a side says of itself in a record OPT. */
export interface Edns {
  /** The longest message that it takes by UDP, in bytes. */
  readonly udpBytes: number;
  readonly version: number;
  /** Whether it wants the records of DNSSEC (DO). */
  readonly wantsDnssec: boolean;
  readonly errors: readonly ExtendedError[];
}

export interface DnsMessage {
  readonly id: number;
  readonly isResponse: boolean;
  readonly opcode: number;
  readonly isTruncated: boolean;
  /** RD. */
  readonly wantsRecursion: boolean;
  /** RA. */
  readonly canRecurse: boolean;
  /** AD: the answer is authentic, or it is asked whether it is (RFC 6840, section 5.7). */
  readonly isAuthentic: boolean;
  /** CD. */
  readonly isUnchecked: boolean;
  /** With the bits that OPT has of it. */
  readonly rcode: number;
  /** Null: there is none. A message with several is malformed (RFC 9619). */
  readonly question: DnsQuestion | null;
  readonly answers: readonly DnsRecord[];
  readonly authorities: readonly DnsRecord[];
  /** Null: it has no OPT. */
  readonly edns: Edns | null;
}

export const HEADER_BYTES = 12;

/** What the length before a message on a stream can say. */
export const MAX_MESSAGE_BYTES = 65_535;

/** What a message comes to once its pointers are followed; many of a long name could make much of little. */
const MAX_EXPANDED_BYTES = 131_072;

const OPTION_EXTENDED_ERROR = 15;

/**
 * The message that the bytes are, from the first to the last; null where they are none. Of the additional section only OPT is
 * kept. Records are of the class IN.
 */
export function parseMessage(bytes: Buffer): DnsMessage | null {
  try {
    return parse(bytes);
  } catch {
    // Whatever it is: `protocol-error`, or what a Buffer throws beyond its end.
    return null;
  }
}

function parse(bytes: Buffer): DnsMessage {
  const [id, flags, questionCount, ...recordCounts] = [0, 2, 4, 6, 8, 10].map((at) => bytes.readUInt16BE(at)) as Header;
  if (questionCount > 1) throw malformed('several questions');
  const reader = new RecordReader(bytes);
  const question = questionCount === 1 ? reader.question() : null;
  const [answers, authorities, additionals] = recordCounts.map((count) => reader.records(count)) as Sections;
  reader.end();
  const [opt, second] = additionals.filter(isOpt);
  if (second !== undefined || [...answers, ...authorities].some(isOpt)) throw malformed('OPT where none may be');
  const ttl = opt?.record.ttl ?? 0;
  return {
    id,
    isResponse: (flags & 0x8000) !== 0,
    opcode: (flags >> 11) & 15,
    isTruncated: (flags & 0x0200) !== 0,
    wantsRecursion: (flags & 0x0100) !== 0,
    canRecurse: (flags & 0x0080) !== 0,
    isAuthentic: (flags & 0x0020) !== 0,
    isUnchecked: (flags & 0x0010) !== 0,
    rcode: (flags & 15) | ((ttl >>> 24) << 4),
    question,
    answers: answers.map(({ record }) => record),
    authorities: authorities.map(({ record }) => record),
    edns: opt === undefined ? null : readEdns(opt),
  };
}

type Header = [number, number, number, number, number, number];
/** OPT has something else in the place of its class. */
interface RawRecord {
  readonly record: DnsRecord;
  readonly class: number;
}
type Sections = [RawRecord[], RawRecord[], RawRecord[]];

const isOpt = ({ record }: RawRecord): boolean => record.type === RECORD_TYPE.OPT;

/** Reads what follows the header, in order. */
class RecordReader {
  readonly #bytes: Buffer;
  #at = HEADER_BYTES;
  #expandedBytes = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  question(): DnsQuestion {
    return { name: this.#name(), type: this.#word(), class: this.#word() };
  }

  records(count: number): RawRecord[] {
    const records: RawRecord[] = [];
    for (let index = 0; index < count; index += 1) records.push(this.#record());
    return records;
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw malformed('bytes behind its end');
  }

  #record(): RawRecord {
    const name = this.#name();
    const type = this.#word();
    const recordClass = this.#word();
    if (type === RECORD_TYPE.OPT ? name.length > 1 : recordClass !== CLASS_IN && !isOfTransaction(type))
      throw malformed('a record of another class');
    const ttl = this.#word() * 0x10000 + this.#word();
    const end = this.#word() + this.#at;
    if (end > this.#bytes.length) throw malformed('a record that is cut off');
    const data = readData(this.#bytes, type, this.#at, end);
    this.#at = end;
    this.#expandedBytes += name.length + data.length;
    if (this.#expandedBytes > MAX_EXPANDED_BYTES) throw malformed('too much in it');
    return { record: { name, type, ttl, data }, class: recordClass };
  }

  #name(): DomainName {
    const { name, end } = readName(this.#bytes, this.#at);
    this.#at = end;
    return name;
  }

  #word(): number {
    const word = this.#bytes.readUInt16BE(this.#at);
    this.#at += 2;
    return word;
  }
}

/** TKEY and TSIG, which sign a message and have the class ANY, and SIG(0). They are not looked at. */
const isOfTransaction = (type: number): boolean => type === 249 || type === 250 || type === 24;

/** What an OPT says; `class` is the size (RFC 6891, section 6.1.2). Throws where its options do not fit. */
function readEdns({ record: { ttl, data }, class: udpBytes }: RawRecord): Edns {
  const errors: ExtendedError[] = [];
  for (let at = 0; at < data.length; ) {
    const value = data.subarray(at + 4, at + 4 + data.readUInt16BE(at + 2));
    if (value.length !== data.readUInt16BE(at + 2)) throw malformed('an option that is cut off');
    if (data.readUInt16BE(at) === OPTION_EXTENDED_ERROR)
      errors.push({ code: value.readUInt16BE(0), text: value.toString('utf8', 2) });
    at += 4 + value.length;
  }
  return { udpBytes, version: (ttl >>> 16) & 0xff, wantsDnssec: (ttl & 0x8000) !== 0, errors };
}

/** The bytes of a message of at most `maxBytes`; one that is longer is sent truncated, with no records (RFC 2181, section 9). */
export function formatMessage(message: DnsMessage, maxBytes: number): Buffer {
  const bytes = format(message);
  if (bytes.length <= maxBytes) return bytes;
  return format({ ...message, isTruncated: true, answers: [], authorities: [] });
}

function format(message: DnsMessage): Buffer {
  const { question, answers, authorities, edns } = message;
  const writer = new MessageWriter();
  const counts = [question === null ? 0 : 1, answers.length, authorities.length, edns === null ? 0 : 1];
  writer.words(message.id, flagsOf(message), ...counts);
  if (question !== null) {
    writer.name(question.name);
    writer.words(question.type, question.class);
  }
  for (const { name, type, ttl, data } of [...answers, ...authorities]) {
    writer.name(name);
    writer.words(type, CLASS_IN);
    writer.long(ttl);
    writer.measured(() => writeData(writer, type, data));
  }
  if (edns !== null) writeEdns(writer, edns, message.rcode);
  return writer.end();
}

function flagsOf(message: DnsMessage): number {
  const bits: readonly [boolean, number][] = [
    [message.isResponse, 0x8000],
    [message.isTruncated, 0x0200],
    [message.wantsRecursion, 0x0100],
    [message.canRecurse, 0x0080],
    [message.isAuthentic, 0x0020],
    [message.isUnchecked, 0x0010],
  ];
  const flags = bits.reduce((sum, [isSet, bit]) => sum | (isSet ? bit : 0), 0);
  return flags | (message.opcode << 11) | (message.rcode & 15);
}

function writeEdns(writer: MessageWriter, { udpBytes, version, wantsDnssec, errors }: Edns, rcode: number): void {
  writer.bytes(ROOT);
  writer.words(RECORD_TYPE.OPT, udpBytes, ((rcode >> 4) << 8) | version, wantsDnssec ? 0x8000 : 0);
  writer.measured(() => {
    for (const { code, text } of errors) {
      writer.words(OPTION_EXTENDED_ERROR);
      writer.measured(() => {
        writer.words(code);
        writer.bytes(Buffer.from(text));
      });
    }
  });
}

const ROOT: DomainName = Buffer.alloc(1);

/** Whether two questions ask the same, in whatever spelling. */
export function isSameQuestion(a: DnsQuestion, b: DnsQuestion): boolean {
  return a.type === b.type && a.class === b.class && keyOf(a.name) === keyOf(b.name);
}
