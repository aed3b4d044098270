/** DNS messages: bytes ⇄ values (RFC 1035, section 4; EDNS, RFC 6891; extended errors, RFC 8914). Parses all or nothing. */
import { copyAlone } from '../../util/bytes/byte-queue.js';
import { type DomainName, keyOf, MessageWriter, malformed, readName } from './domain-names.js';
import { CLASS_IN, type DnsRecord, RECORD_TYPE, readData, writeData } from './resource-records.js';

/** Response codes in use (RFC 1035, section 4.1.1; BADVERS: RFC 6891, section 9). */
export const RCODE = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5, BADVERS: 16 } as const;

const RCODE_NAMES = new Map(Object.entries(RCODE).map(([name, code]) => [code as number, name.toLowerCase()]));

/** The name of a response code of this table, in lower case. */
export const rcodeName = (rcode: number): string => RCODE_NAMES.get(rcode) ?? 'other';

/** Extended error codes in use (RFC 8914, section 4). */
export const EXTENDED_ERROR = { BLOCKED: 15, PROHIBITED: 18, NOT_SUPPORTED: 21, NETWORK_ERROR: 23 } as const;

export interface DnsQuestion {
  readonly name: DomainName;
  readonly type: number;
  readonly class: number;
}

/** Explains an answer. */
export interface ExtendedError {
  readonly code: number;
  /** Human-readable; may be empty. */
  readonly text: string;
}

/** The contents of an OPT record. */
export interface Edns {
  /** The longest UDP message that its sender accepts, in bytes. */
  readonly udpBytes: number;
  readonly version: number;
  /** Whether it requests DNSSEC records (DO). */
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
  /** AD: the answer is authentic; in a query, asks whether it is (RFC 6840, section 5.7). */
  readonly isAuthentic: boolean;
  /** CD. */
  readonly isUnchecked: boolean;
  /** Includes the bits from OPT. */
  readonly rcode: number;
  /** Null if absent. A message with several is malformed (RFC 9619). */
  readonly question: DnsQuestion | null;
  readonly answers: readonly DnsRecord[];
  readonly authorities: readonly DnsRecord[];
  /** Null without OPT. */
  readonly edns: Edns | null;
}

export const HEADER_BYTES = 12;

/** The maximum of the length field on a stream. */
export const MAX_MESSAGE_BYTES = 65_535;

/** Bound on the decompressed size: pointers to long names amplify. */
const MAX_EXPANDED_BYTES = 131_072;

/**
 * Limit on records besides OPT, in all sections: parsing one costs far more time than its bytes suggest, and 65,535 bytes can
 * hold 5,956. Answers in practical use have a few dozen.
 */
export const MAX_RECORDS = 512;

const OPTION_EXTENDED_ERROR = 15;

/** Extended errors read from a message. */
const MAX_ERRORS = 8;

/** Parses a whole message; null if malformed. Of the additional section only OPT is kept. All records are of class IN. */
export function parseMessage(bytes: Buffer): DnsMessage | null {
  try {
    return parse(bytes);
  } catch {
    // Either `protocol-error`, or a Buffer's out-of-range error.
    return null;
  }
}

function parse(bytes: Buffer): DnsMessage {
  const [id, flags, questionCount, ...recordCounts] = [0, 2, 4, 6, 8, 10].map((at) => bytes.readUInt16BE(at)) as Header;
  if (questionCount > 1) throw malformed('several questions');
  if (recordCounts.reduce((sum, count) => sum + count) > MAX_RECORDS + 1) throw malformed('too many records');
  const reader = new RecordReader(bytes);
  const question = questionCount === 1 ? reader.question() : null;
  const [answers, authorities, additionals] = recordCounts.map((count) => reader.records(count)) as Sections;
  reader.end();
  const [opt, second] = additionals.filter(isOpt);
  if (second !== undefined || [...answers, ...authorities].some(isOpt)) throw malformed('misplaced OPT');
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

/** The question of a message, whatever follows it; null if there is none, undefined if it is malformed. */
export function parseQuestion(bytes: Buffer): DnsQuestion | null | undefined {
  try {
    return bytes.readUInt16BE(4) === 0 ? null : new RecordReader(bytes).question();
  } catch {
    return undefined;
  }
}

type Header = [number, number, number, number, number, number];
/** OPT uses the class field for something else. */
interface RawRecord {
  readonly record: DnsRecord;
  readonly class: number;
}
type Sections = [RawRecord[], RawRecord[], RawRecord[]];

const isOpt = ({ record }: RawRecord): boolean => record.type === RECORD_TYPE.OPT;

/** Reads the sections after the header, in order. */
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
    if (this.#at !== this.#bytes.length) throw malformed('trailing bytes');
  }

  #record(): RawRecord {
    const name = this.#name();
    const type = this.#word();
    const recordClass = this.#word();
    if (type === RECORD_TYPE.OPT ? name.length > 1 : recordClass !== CLASS_IN && !isOfTransaction(type))
      throw malformed('unexpected record class');
    const ttl = this.#word() * 0x10000 + this.#word();
    const end = this.#word() + this.#at;
    if (end > this.#bytes.length) throw malformed('truncated record');
    const data = readData(this.#bytes, type, this.#at, end);
    this.#at = end;
    this.#expandedBytes += name.length + data.length;
    if (this.#expandedBytes > MAX_EXPANDED_BYTES) throw malformed('too large when decompressed');
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

/** TKEY and TSIG, which sign a message and have class ANY, and SIG(0). They are ignored. */
const isOfTransaction = (type: number): boolean => type === 249 || type === 250 || type === 24;

/** Reads an OPT, whose `class` is the size (RFC 6891, section 6.1.2). Throws if its options are malformed. */
function readEdns({ record: { ttl, data }, class: udpBytes }: RawRecord): Edns {
  const errors: ExtendedError[] = [];
  for (let at = 0; at < data.length; ) {
    const value = data.subarray(at + 4, at + 4 + data.readUInt16BE(at + 2));
    if (value.length !== data.readUInt16BE(at + 2)) throw malformed('truncated option');
    if (data.readUInt16BE(at) === OPTION_EXTENDED_ERROR && errors.length < MAX_ERRORS)
      errors.push({ code: value.readUInt16BE(0), text: value.toString('utf8', 2) });
    at += 4 + value.length;
  }
  return { udpBytes, version: (ttl >>> 16) & 0xff, wantsDnssec: (ttl & 0x8000) !== 0, errors };
}

/** The records of an answer as written after its question, with names that point back to it. */
export interface WrittenRecords {
  readonly bytes: Buffer;
  readonly answerCount: number;
  readonly authorityCount: number;
  /** The offsets of the TTLs in `bytes`. */
  readonly ttlOffsets: readonly number[];
}

/** A message without its records. */
export type MessageHead = Omit<DnsMessage, 'answers' | 'authorities'>;

export const NO_RECORDS = writeRecords({ question: null, answers: [], authorities: [] });

/** Writes records once for every query with this question, whatever its spelling. */
export function writeRecords({
  question,
  answers,
  authorities,
}: Pick<DnsMessage, 'question' | 'answers' | 'authorities'>): WrittenRecords {
  const writer = new MessageWriter();
  writer.bytes(Buffer.alloc(HEADER_BYTES));
  if (question !== null) writeQuestion(writer, question);
  const start = writer.byteCount;
  const ttlOffsets: number[] = [];
  for (const { name, type, ttl, data } of [...answers, ...authorities]) {
    writer.name(name);
    writer.words(type, CLASS_IN);
    ttlOffsets.push(writer.byteCount - start);
    writer.long(ttl);
    writer.measured(() => writeData(writer, type, data));
  }
  const bytes = copyAlone(writer.end().subarray(start));
  return { bytes, answerCount: answers.length, authorityCount: authorities.length, ttlOffsets };
}

/** Subtracts seconds from the TTLs of written records, in place. */
export function ageRecords({ bytes, ttlOffsets }: WrittenRecords, seconds: number): void {
  for (const offset of ttlOffsets) bytes.writeUInt32BE(bytes.readUInt32BE(offset) - seconds, offset);
}

/** Formats a message of at most `maxBytes`; a longer one is truncated, without records (RFC 2181, section 9). */
export function formatMessage(message: DnsMessage, maxBytes: number): Buffer {
  return formatAnswer(message, writeRecords(message), maxBytes);
}

/** The same, with records already written for the question. */
export function formatAnswer(head: MessageHead, records: WrittenRecords, maxBytes: number): Buffer {
  const bytes = format(head, records);
  return bytes.length <= maxBytes ? bytes : format({ ...head, isTruncated: true }, NO_RECORDS);
}

function format(head: MessageHead, { bytes, answerCount, authorityCount }: WrittenRecords): Buffer {
  const { id, question, edns, rcode } = head;
  const writer = new MessageWriter();
  writer.words(id, flagsOf(head), Number(question !== null), answerCount, authorityCount, Number(edns !== null));
  if (question !== null) writeQuestion(writer, question);
  writer.bytes(bytes);
  if (edns !== null) writeEdns(writer, edns, rcode);
  return writer.end();
}

function writeQuestion(writer: MessageWriter, question: DnsQuestion): void {
  writer.name(question.name);
  writer.words(question.type, question.class);
}

function flagsOf(message: MessageHead): number {
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

/** Whether two questions are the same except for spelling. */
export function isSameQuestion(a: DnsQuestion, b: DnsQuestion): boolean {
  return a.type === b.type && a.class === b.class && keyOf(a.name) === keyOf(b.name);
}
