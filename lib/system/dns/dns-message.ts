/** Messages of DNS: bytes ⇄ values (RFC 1035, section 4; EDNS, RFC 6891; extended errors, RFC 8914). Strict: a message is understood whole, or not at all. */
import { copyAlone } from '../../util/bytes/byte-queue.js';
import { type DomainName, keyOf, MessageWriter, malformed, readName } from './domain-names.js';
import { CLASS_IN, type DnsRecord, RECORD_TYPE, readData, writeData } from './resource-records.js';

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

/**
 * Records of a message beside OPT, in all of its sections: each costs far more time than its bytes, and 65,535 bytes have room for 5,956.
 * Answers that programs use have a few dozen.
 */
export const MAX_RECORDS = 512;

const OPTION_EXTENDED_ERROR = 15;

/** Extended errors that are read of a message. */
const MAX_ERRORS = 8;

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
  if (recordCounts.reduce((sum, count) => sum + count) > MAX_RECORDS + 1) throw malformed('too many records');
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

/** The question of a message, whatever follows it; null: it has none; undefined: it makes no sense. */
export function parseQuestion(bytes: Buffer): DnsQuestion | null | undefined {
  try {
    return bytes.readUInt16BE(4) === 0 ? null : new RecordReader(bytes).question();
  } catch {
    return undefined;
  }
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
    if (data.readUInt16BE(at) === OPTION_EXTENDED_ERROR && errors.length < MAX_ERRORS)
      errors.push({ code: value.readUInt16BE(0), text: value.toString('utf8', 2) });
    at += 4 + value.length;
  }
  return { udpBytes, version: (ttl >>> 16) & 0xff, wantsDnssec: (ttl & 0x8000) !== 0, errors };
}

/** The records of an answer as they stand behind its question, with names that point back to that. */
export interface WrittenRecords {
  readonly bytes: Buffer;
  readonly answerCount: number;
  readonly authorityCount: number;
  /** Where in `bytes` the times of the records are. */
  readonly ttlOffsets: readonly number[];
}

/** A message without its records. */
export type MessageHead = Omit<DnsMessage, 'answers' | 'authorities'>;

export const NO_RECORDS = writeRecords({ question: null, answers: [], authorities: [] });

/** Writes records once for all who ask this question, in whatever spelling. */
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

/** Takes seconds off the times of records, in their bytes. */
export function ageRecords({ bytes, ttlOffsets }: WrittenRecords, seconds: number): void {
  for (const offset of ttlOffsets) bytes.writeUInt32BE(bytes.readUInt32BE(offset) - seconds, offset);
}

/** The bytes of a message of at most `maxBytes`; one that is longer is sent truncated, with no records (RFC 2181, section 9). */
export function formatMessage(message: DnsMessage, maxBytes: number): Buffer {
  return formatAnswer(message, writeRecords(message), maxBytes);
}

/** The same, with records that were written for the question before. */
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

/** Whether two questions ask the same, in whatever spelling. */
export function isSameQuestion(a: DnsQuestion, b: DnsQuestion): boolean {
  return a.type === b.type && a.class === b.class && keyOf(a.name) === keyOf(b.name);
}
