/** Answers a guest's questions with what this machine's resolver says, for the names that an egress allows, and without the addresses that it refuses. */

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
import { parseAddress } from '../../util/addresses.js';
import type { Clock } from '../../util/clock.js';
import { LoopTurns } from '../../util/concurrency.js';
import { judgeName } from '../egress/admission.js';
import type { EgressRules, Verdict } from '../egress/rules.js';
import { admitRecords, judgeAtSomePort } from './admitted.js';
import { AnswerCache, boundTimes } from './cache.js';

/** Who asks. */
export interface Asker {
  /** How the question came: by UDP the answer has to be as short as the question says. */
  readonly transport: 'udp' | 'tcp';
  /** A question of this asker, or an address in the answer, was refused by the rules. */
  readonly onRefused: (question: RefusedQuestion) => void;
}

/** What the rules refused of a question. */
export interface RefusedQuestion {
  /** As people write it, with a final dot: of letters, digits, `_`, `-`, dots and backslashes only. */
  readonly name: string;
  /** Such as `AAAA`. */
  readonly type: string;
  readonly verdict: Verdict;
}

export interface ResolverOptions {
  /** The name of the egress, for messages. */
  readonly egress: string;
  /** Its rules of the moment; null: there is no such egress, and everything is refused. */
  readonly rules: () => EgressRules | null;
  readonly clock: Clock;
  /** Asks this machine's resolver. */
  readonly ask: (question: ServerQuestion) => Promise<DnsMessage>;
  /** The addresses that /etc/hosts has of a name; null: none. */
  readonly addressesOf: (host: string) => readonly string[] | null;
  /** The addresses of this machine; the same set until they change. */
  readonly ownAddresses: () => ReadonlySet<string>;
  /** Where its work is done, in turns with all others. Default: turns of its own. */
  readonly turns?: LoopTurns;
  /** Questions that are worked on at once; further ones are answered with SERVFAIL. Default 256. */
  readonly maxInFlight?: number;
}

/** The longest question that is read, in bytes: a name, and options. */
export const MAX_QUESTION_BYTES = 4096;

/** What is taken by UDP without EDNS (RFC 1035, section 2.3.4). */
const PLAIN_UDP_BYTES = 512;

/** Of a name, in characters, so that an answer without records fits 512 bytes. */
const MAX_SHOWN = 80;

/** For how long what /etc/hosts says is good, in seconds: it may be changed at any time. */
const HOSTS_TTL = 60;

/** The types from here to ANY are questions about messages and zones, not about records (RFC 6895, section 3.1). */
const FIRST_META_TYPE = 128;

/** What is answered to a question beside the question itself. */
interface Reply {
  readonly rcode: number;
  readonly records?: WrittenRecords;
  readonly isAuthentic?: boolean;
  readonly errors?: readonly ExtendedError[];
}

/** An answer that was judged and written, for all who ask the same while its rules and the addresses of this machine are the same. */
interface JudgedAnswer extends Reply {
  readonly records: WrittenRecords;
  /** Why the first record that is left out was refused; null: none is. */
  readonly refused: Verdict | null;
  readonly rules: EgressRules | null;
  readonly own: ReadonlySet<string>;
}

/** A question of records, which has one. */
type Query = DnsMessage & { readonly question: DnsQuestion };

/** What a server or a file says. */
type FoundAnswer = Pick<DnsMessage, 'rcode' | 'answers' | 'authorities' | 'isAuthentic' | 'edns'>;

export class Resolver {
  readonly #options: ResolverOptions;
  readonly #turns: LoopTurns;
  readonly #cache: AnswerCache<JudgedAnswer>;
  /** What is being asked: whoever asks the same meanwhile waits for the same answer. */
  readonly #asked = new Map<string, Promise<JudgedAnswer>>();
  #inFlight = 0;

  constructor(options: ResolverOptions) {
    this.#options = options;
    this.#turns = options.turns ?? new LoopTurns();
    this.#cache = new AnswerCache(options);
  }

  /**
   * The answer to a message; null where there is none to what came. Never rejects. One that is known is made within the call, which
   * is for the caller to have in its slice of time.
   */
  async answer(bytes: Buffer, asker: Asker): Promise<Buffer | null> {
    // An answer to an answer could go on for ever.
    if (bytes.length < HEADER_BYTES || (bytes[2] ?? 0) >= 0x80) return null;
    const query = bytes.length > MAX_QUESTION_BYTES ? null : parseMessage(bytes);
    if (query === null) return formatReply(headerOf(bytes), { rcode: RCODE.FORMERR }, PLAIN_UDP_BYTES);
    const udpBytes = Math.min(Math.max(PLAIN_UDP_BYTES, query.edns?.udpBytes ?? 0), MAX_DATAGRAM_BYTES);
    const maxBytes = asker.transport === 'tcp' ? MAX_MESSAGE_BYTES : udpBytes;
    const known = this.#reply(query, asker);
    if (!(known instanceof Promise)) return formatReply(query, known, maxBytes);
    const reply = await known;
    return this.#turns.run(() => formatReply(query, reply, maxBytes));
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

  /** Throws where the system does not tell the addresses of this machine. */
  #resolve(query: Query, asker: Asker, host: string, rules: EgressRules): Reply | Promise<Reply> {
    const { question } = query;
    const inHosts = this.#inHosts(host, question);
    if (inHosts !== null) return this.#tell(this.#judge(inHosts, question, host), question, asker);
    const wantsDnssec = query.edns?.wantsDnssec ?? false;
    const key = `${keyOf(question.name)} ${question.type} ${Number(wantsDnssec)}${Number(query.isUnchecked)}`;
    const kept = this.#cache.get(key);
    if (kept?.rules === rules && kept.own === this.#options.ownAddresses()) return this.#tell(kept, question, asker);
    if (this.#inFlight >= (this.#options.maxInFlight ?? 256)) return failure('too many questions in flight');
    const upstream = { ...question, wantsDnssec, isUnchecked: query.isUnchecked };
    return this.#waitFor(() => this.#ask(key, host, upstream), question, asker, host);
  }

  async #waitFor(ask: () => Promise<JudgedAnswer>, question: DnsQuestion, asker: Asker, host: string): Promise<Reply> {
    this.#inFlight += 1;
    try {
      const answer = await ask();
      // The rules may be others than those by which the name was judged.
      const verdict = judge(answer.rules, host, this.#options.egress);
      return verdict.isAllowed ? this.#tell(answer, question, asker) : this.#refuse(question, verdict, asker);
    } catch {
      // What is wrong there is nothing for a guest: it could learn of this machine's network.
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

  #keep(key: string, host: string, question: ServerQuestion, message: DnsMessage): JudgedAnswer {
    const bounded = boundTimes(message);
    const answer = this.#judge(bounded, question, host);
    this.#cache.set(key, bounded, answer);
    return answer;
  }

  /** What a server, or a file, has said, for guests, by the rules of the moment. That it refused to answer is a failure: REFUSED is what the rules of this side say. */
  #judge(message: FoundAnswer, question: DnsQuestion, host: string): JudgedAnswer {
    const rules = this.#options.rules();
    const own = this.#options.ownAddresses();
    // Texts are that server's, and may name what is none of the guest's business.
    const errors = (message.edns?.errors ?? []).map(({ code }) => ({ code, text: '' }));
    const { rcode, isAuthentic } = message;
    if (rules === null || (rcode !== RCODE.NOERROR && rcode !== RCODE.NXDOMAIN))
      return { rcode: RCODE.SERVFAIL, records: NO_RECORDS, errors, refused: null, rules, own };
    const isOwn = (address: string): boolean => own.has(address);
    const admitted = admitRecords(message, (address) => judgeAtSomePort(rules, host, address, isOwn));
    const records = writeRecords({ ...admitted, question });
    return { rcode, records, isAuthentic, errors, refused: admitted.refused, rules, own };
  }

  /** An answer for one who asks, who is told what is left out; this side is, too. */
  #tell(answer: JudgedAnswer, question: DnsQuestion, asker: Asker): Reply {
    if (answer.refused === null) return answer;
    const blocked = this.#explain(question, answer.refused, asker, EXTENDED_ERROR.BLOCKED);
    return { ...answer, errors: [blocked, ...(answer.errors ?? [])] };
  }

  #refuse(question: DnsQuestion, verdict: Verdict, asker: Asker): Reply {
    return { rcode: RCODE.REFUSED, errors: [this.#explain(question, verdict, asker, EXTENDED_ERROR.PROHIBITED)] };
  }

  /** Tells this side what was refused, and gives what the guest is told. */
  #explain({ name, type }: DnsQuestion, verdict: Verdict, { onRefused }: Asker, code: number): ExtendedError {
    const text = formatName(name);
    onRefused({ name: text, type: typeName(type), verdict });
    const what = code === EXTENDED_ERROR.BLOCKED ? 'an address of ' : '';
    const shown = text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text.replace(/(.)\.$/, '$1');
    return { code, text: `${what}${shown} is not allowed by egress "${this.#options.egress}" on the host` };
  }

  /** What /etc/hosts says of a name, which then has no other addresses; null where it says nothing. */
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

/** What is answered to a question that is not about records of a type; null where it is. */
function judgeKind(question: DnsQuestion): Reply | null {
  const { name, type, class: questionClass } = question;
  if (questionClass === CLASS_IN && type === RECORD_TYPE.ANY) {
    // RFC 8482, section 4.2: an answer that is one, and small.
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

/** The bytes of a reply to a query. */
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

/** What is known of a message that is not understood: who asked, and how. */
function headerOf(bytes: Buffer): DnsMessage {
  const header = Buffer.alloc(HEADER_BYTES);
  bytes.copy(header, 0, 0, 4);
  // A header alone is a message.
  return parseMessage(header) as DnsMessage;
}
