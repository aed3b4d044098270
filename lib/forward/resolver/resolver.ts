/** Answers a guest's questions from this machine's resolver: only names that an egress allows, without addresses it refuses. */

import { MAX_DATAGRAM_BYTES } from '../../codec/datagram-messages.js';
import {
  type DnsMessage,
  type DnsQuestion,
  EXTENDED_ERROR,
  type ExtendedError,
  formatAnswer,
  HEADER_BYTES,
  MAX_MESSAGE_BYTES,
  NO_RECORDS,
  parseMessage,
  RCODE,
  type WrittenRecords,
  writeRecords,
} from '../../system/dns/dns-message.js';
import { formatName, hostOf, keyOf } from '../../system/dns/domain-names.js';
import { type ServerQuestion, UDP_BYTES } from '../../system/dns/name-servers.js';
import { CLASS_IN, RECORD_TYPE, typeName } from '../../system/dns/resource-records.js';
import { formatAddress, parseAddress } from '../../util/addresses/host-port.js';
import type { Clock } from '../../util/clock.js';
import { LoopTurns } from '../../util/concurrency.js';
import { judgeName } from '../egress/admission.js';
import type { EgressRules, Verdict } from '../egress/rules.js';
import { admitRecords, judgeAtSomePort } from './admitted.js';
import { AnswerCache, boundTimes } from './cache.js';

export interface Asker {
  /** How the question came; over UDP it limits the size of the answer. */
  readonly transport: 'udp' | 'tcp';
  /** The rules refused a question of this asker, or an address in its answer. */
  readonly onRefused: (question: RefusedQuestion) => void;
}

/** A question, or part of its answer, that the rules refused. */
export interface RefusedQuestion {
  /** In presentation form, with a final dot: only letters, digits, `_`, `-`, dots and backslashes. */
  readonly name: string;
  /** Such as `AAAA`. */
  readonly type: string;
  readonly verdict: Verdict;
}

export interface ResolverOptions {
  /** The name of the egress, for messages. */
  readonly egress: string;
  /** Its current rules; null if there is no such egress: everything is refused. */
  readonly rules: () => EgressRules | null;
  readonly clock: Clock;
  /** Asks this machine's resolver. */
  readonly ask: (question: ServerQuestion) => Promise<DnsMessage>;
  /** The addresses of a name in /etc/hosts; null if it is not listed. */
  readonly addressesOf: (host: string) => readonly string[] | null;
  /** An asker gets these addresses for a name, which may be kept for `ttl` seconds. Default: no callback. */
  readonly onAddresses?: (host: string, addresses: readonly string[], ttl: number) => void;
  /** The addresses of this machine; the same set until they change. */
  readonly ownAddresses: () => ReadonlySet<string>;
  /** Turns in which it works, shared with others. Default: its own. */
  readonly turns?: LoopTurns;
  /** A question was answered, after this time. Default: no callback. */
  readonly onAnswered?: (rcode: number, durationMs: number) => void;
  /** Limit on questions in progress; further ones get SERVFAIL. Default 256. */
  readonly maxInFlight?: number;
}

/** Limit on the length of a question, in bytes: a name, and options. */
export const MAX_QUESTION_BYTES = 4096;

/** Limit on an answer over UDP without EDNS (RFC 1035, section 2.3.4). */
const PLAIN_UDP_BYTES = 512;

/** Limit on a shown name in characters, so that an answer without records fits in 512 bytes. */
const MAX_SHOWN = 80;

/** TTL of answers from /etc/hosts, in seconds: the file may change at any time. */
const HOSTS_TTL = 60;

/** Types from here to ANY ask about messages and zones, not about records (RFC 6895, section 3.1). */
const FIRST_META_TYPE = 128;

/** An answer, without the question. */
interface Reply {
  readonly rcode: number;
  readonly records?: WrittenRecords;
  readonly isAuthentic?: boolean;
  /** The rules that its records were checked against, if it has any. */
  readonly rules?: EgressRules | null;
  readonly errors?: readonly ExtendedError[];
}

/** A judged and encoded answer, reused while the rules and this machine's addresses stay the same. */
interface JudgedAnswer extends Reply {
  readonly records: WrittenRecords;
  /** Why the first omitted record was refused; null if none was omitted. */
  readonly refused: Verdict | null;
  /** The addresses in it, and the TTL of the last one, in seconds, when it was received. */
  readonly addresses: readonly string[];
  readonly ttl: number;
  readonly rules: EgressRules | null;
  readonly own: ReadonlySet<string>;
}

const NO_ADDRESSES = { addresses: [], ttl: 0 } as const;

type Query = DnsMessage & { readonly question: DnsQuestion };

/** An answer from a server or from /etc/hosts. */
type FoundAnswer = Pick<DnsMessage, 'rcode' | 'answers' | 'authorities' | 'isAuthentic' | 'edns'>;

export class Resolver {
  readonly #options: ResolverOptions;
  readonly #turns: LoopTurns;
  readonly #cache: AnswerCache<JudgedAnswer>;
  /** Questions in flight: the same question meanwhile waits for the same answer. */
  readonly #asked = new Map<string, Promise<JudgedAnswer>>();
  #inFlight = 0;

  constructor(options: ResolverOptions) {
    this.#options = options;
    this.#turns = options.turns ?? new LoopTurns();
    this.#cache = new AnswerCache(options);
  }

  /**
   * Answers a message; null if it must not be answered. Never rejects. A known answer is made within the call, which the caller
   * makes in its own turn.
   */
  async answer(bytes: Buffer, asker: Asker): Promise<Buffer | null> {
    // Answering an answer could loop forever.
    if (bytes.length < HEADER_BYTES || (bytes[2] ?? 0) >= 0x80) return null;
    const { clock, onAnswered } = this.#options;
    const askedAtMs = clock.now();
    const format = (asked: DnsMessage, reply: Reply, limitBytes: number): Buffer => {
      onAnswered?.(reply.rcode, clock.now() - askedAtMs);
      return formatReply(asked, reply, limitBytes);
    };
    const query = bytes.length > MAX_QUESTION_BYTES ? null : parseMessage(bytes);
    if (query === null) return format(headerOf(bytes), { rcode: RCODE.FORMERR }, PLAIN_UDP_BYTES);
    const udpBytes = Math.min(Math.max(PLAIN_UDP_BYTES, query.edns?.udpBytes ?? 0), MAX_DATAGRAM_BYTES);
    const maxBytes = asker.transport === 'tcp' ? MAX_MESSAGE_BYTES : udpBytes;
    const known = this.#reply(query, asker);
    if (!(known instanceof Promise)) return format(query, known, maxBytes);
    const reply = await known;
    // The rules have changed since: check again.
    const isOld = (): boolean => reply.rules !== undefined && reply.rules !== this.#options.rules();
    const said = await this.#turns.run(() => (isOld() ? null : format(query, reply, maxBytes)));
    return said ?? this.answer(bytes, asker);
  }

  #reply(query: DnsMessage, asker: Asker): Reply | Promise<Reply> {
    const { question } = query;
    if (query.opcode !== 0) return { rcode: RCODE.NOTIMP };
    if (query.edns !== null && query.edns.version !== 0) return { rcode: RCODE.BADVERS };
    if (question === null || query.answers.length + query.authorities.length > 0) return { rcode: RCODE.FORMERR };
    const rules = this.#options.rules();
    const host = hostOf(question.name);
    const verdict = judge(rules, host, this.#options.egress);
    if (rules === null || host === null || !verdict.isAllowed) return this.#refuse(question, verdict, asker);
    const unsupported = judgeKind(question);
    if (unsupported !== null) return unsupported;
    try {
      return this.#resolve({ ...query, question }, asker, host, rules);
    } catch {
      return failure('the host cannot list its own addresses');
    }
  }

  /** Throws if the system cannot list this machine's addresses. */
  #resolve(query: Query, asker: Asker, host: string, rules: EgressRules): Reply | Promise<Reply> {
    const { question } = query;
    const inHosts = this.#inHosts(host, question);
    const wantsDnssec = query.edns?.wantsDnssec ?? false;
    const key = `${keyOf(question.name)} ${question.type} ${Number(wantsDnssec)}${Number(query.isUnchecked)}`;
    const kept = this.#cache.get(key);
    if (inHosts === null && kept?.rules === rules && kept.own === this.#options.ownAddresses())
      return this.#tell(kept, question, asker, host);
    if (this.#inFlight >= (this.#options.maxInFlight ?? 256)) return failure('too many questions in flight');
    const upstream = { ...question, wantsDnssec, isUnchecked: query.isUnchecked };
    const ask = () => (inHosts === null ? this.#ask(key, host, upstream) : this.#judge(inHosts, question, host));
    return this.#waitFor(ask, question, asker, host);
  }

  async #waitFor(ask: () => Promise<JudgedAnswer>, question: DnsQuestion, asker: Asker, host: string): Promise<Reply> {
    this.#inFlight += 1;
    try {
      const answer = await ask();
      // The rules may have changed since the name was judged.
      const verdict = judge(answer.rules, host, this.#options.egress);
      return verdict.isAllowed ? this.#tell(answer, question, asker, host) : this.#refuse(question, verdict, asker);
    } catch {
      // The cause is withheld from the guest: it could reveal this machine's network.
      return failure("the host's resolver did not answer");
    } finally {
      this.#inFlight -= 1;
    }
  }

  #ask(key: string, host: string, question: ServerQuestion): Promise<JudgedAnswer> {
    const asked = this.#asked.get(key);
    if (asked !== undefined) return asked;
    const answer = this.#options
      .ask(question)
      .then((message) => this.#turns.run(() => this.#keep(key, host, question, message)))
      .finally(() => this.#asked.delete(key));
    this.#asked.set(key, answer);
    return answer;
  }

  async #keep(key: string, host: string, question: ServerQuestion, message: DnsMessage): Promise<JudgedAnswer> {
    const bounded = boundTimes(message);
    const answer = await this.#judge(bounded, question, host);
    this.#cache.set(key, bounded, answer);
    return answer;
  }

  /** Applies the current rules to an answer. A server's refusal becomes a failure, since REFUSED means this side's rules. */
  async #judge(message: FoundAnswer, question: DnsQuestion, host: string): Promise<JudgedAnswer> {
    const rules = this.#options.rules();
    const own = this.#options.ownAddresses();
    // Drop the server's texts, which may reveal more than the guest may know.
    const errors = (message.edns?.errors ?? []).map(({ code }) => ({ code, text: '' }));
    const { rcode, isAuthentic } = message;
    if (rules === null || (rcode !== RCODE.NOERROR && rcode !== RCODE.NXDOMAIN))
      return { rcode: RCODE.SERVFAIL, records: NO_RECORDS, errors, refused: null, ...NO_ADDRESSES, rules, own };
    const isOwn = (address: string): boolean => own.has(address);
    const judgeOne = (address: string): Verdict => judgeAtSomePort(rules, host, address, isOwn);
    const admitted = await admitRecords(message, judgeOne, this.#turns);
    const records = writeRecords({ ...admitted, question });
    const found = admitted.answers.filter(({ type }) => type === RECORD_TYPE.A || type === RECORD_TYPE.AAAA);
    const addresses = found.map(({ data }) => formatAddress(data));
    const ttl = found.at(-1)?.ttl ?? 0;
    return { rcode, records, isAuthentic, errors, refused: admitted.refused, addresses, ttl, rules, own };
  }

  /** Completes an answer for an asker: reports omitted records to it and to this side. */
  #tell(answer: JudgedAnswer, question: DnsQuestion, asker: Asker, host: string): Reply {
    if (answer.addresses.length > 0) this.#options.onAddresses?.(host, answer.addresses, answer.ttl);
    if (answer.refused === null) return answer;
    const blocked = this.#explain(question, answer.refused, asker, EXTENDED_ERROR.BLOCKED);
    return { ...answer, errors: [blocked, ...(answer.errors ?? [])] };
  }

  #refuse(question: DnsQuestion, verdict: Verdict, asker: Asker): Reply {
    return { rcode: RCODE.REFUSED, errors: [this.#explain(question, verdict, asker, EXTENDED_ERROR.PROHIBITED)] };
  }

  /** Reports a refusal to this side, and returns the error for the guest. */
  #explain({ name, type }: DnsQuestion, verdict: Verdict, { onRefused }: Asker, code: number): ExtendedError {
    const text = formatName(name);
    onRefused({ name: text, type: typeName(type), verdict });
    const what = code === EXTENDED_ERROR.BLOCKED ? 'an address of ' : '';
    const shown = text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text.replace(/(.)\.$/, '$1');
    return { code, text: `${what}${shown} is not allowed by egress "${this.#options.egress}" on the host` };
  }

  /** The addresses of a name in /etc/hosts, which then has no others; null if it is not listed. */
  #inHosts(host: string, { name, type }: DnsQuestion): FoundAnswer | null {
    if (type !== RECORD_TYPE.A && type !== RECORD_TYPE.AAAA) return null;
    const addresses = this.#options.addressesOf(host);
    if (addresses === null) return null;
    const wantedBytes = type === RECORD_TYPE.A ? 4 : 16;
    const found = addresses.map((address) => Buffer.from(parseAddress(address) ?? []));
    const answers = found
      .filter(({ length }) => length === wantedBytes)
      .map((data) => ({ name, type, ttl: HOSTS_TTL, data }));
    return { rcode: RCODE.NOERROR, answers, authorities: [], isAuthentic: false, edns: null };
  }
}

function judge(rules: EgressRules | null, host: string | null, egress: string): Verdict {
  const denied = (why: string): Verdict => ({ isAllowed: false, rule: null, why });
  if (rules === null) return denied(`no egress "${egress}" is defined`);
  return host === null ? denied('not a host name') : judgeName(rules, host);
}

/** The answer to a question that does not ask for records of one type; null if it does. */
function judgeKind(question: DnsQuestion): Reply | null {
  const { name, type, class: questionClass } = question;
  if (questionClass === CLASS_IN && type === RECORD_TYPE.ANY) {
    // RFC 8482, section 4.2: a small synthesized answer.
    const data = Buffer.from('\x07RFC8482\0', 'latin1');
    const answers = [{ name, type: RECORD_TYPE.HINFO, ttl: 3600, data }];
    return { rcode: RCODE.NOERROR, records: writeRecords({ question, answers, authorities: [] }) };
  }
  const isMeta = (type >= FIRST_META_TYPE && type <= RECORD_TYPE.ANY) || type === RECORD_TYPE.OPT || type === 0;
  if (questionClass === CLASS_IN && !isMeta) return null;
  const text = `${typeName(type)} of class ${questionClass} is not supported`;
  return { rcode: RCODE.REFUSED, errors: [{ code: EXTENDED_ERROR.NOT_SUPPORTED, text }] };
}

function failure(text: string): Reply {
  return { rcode: RCODE.SERVFAIL, errors: [{ code: EXTENDED_ERROR.NETWORK_ERROR, text }] };
}

function formatReply(query: DnsMessage, reply: Reply, maxBytes: number): Buffer {
  const { edns } = query;
  const wantsDnssec = edns?.wantsDnssec ?? false;
  const { rcode, records = NO_RECORDS, isAuthentic = false, errors = [] } = reply;
  const head = {
    id: query.id,
    isResponse: true,
    opcode: query.opcode,
    isTruncated: false,
    wantsRecursion: query.wantsRecursion,
    canRecurse: true,
    isAuthentic: isAuthentic && (query.isAuthentic || wantsDnssec),
    isUnchecked: query.isUnchecked,
    rcode,
    question: query.question,
    edns: edns === null ? null : { udpBytes: UDP_BYTES, version: 0, wantsDnssec, errors },
  };
  return formatAnswer(head, records, maxBytes);
}

/** The usable part of a malformed message: its id and flags. */
function headerOf(bytes: Buffer): DnsMessage {
  const header = Buffer.alloc(HEADER_BYTES);
  bytes.copy(header, 0, 0, 4);
  // A header alone is a message.
  return parseMessage(header) as DnsMessage;
}
