/** Queries name servers: each question from its own socket, by UDP, or by TCP if the answer is too long (RFC 5452, section 9). */
import { randomInt } from 'node:crypto';
import dgram from 'node:dgram';
import { once, setMaxListeners } from 'node:events';
import net from 'node:net';
import { VproxyError } from '../../errors.js';
import { formatHostPort, type HostPort, isIPv6 } from '../../util/addresses/host-port.js';
import type { Clock } from '../../util/clock.js';
import { LoopTurns, Turns } from '../../util/concurrency.js';
import { describeError } from '../../util/escape.js';
import { guardDescriptor } from '../descriptors.js';
import {
  type DnsMessage,
  type DnsQuestion,
  formatMessage,
  HEADER_BYTES,
  isSameQuestion,
  MAX_MESSAGE_BYTES,
  parseMessage,
  parseQuestion,
  RCODE,
} from './dns-message.js';
import { frameMessage, MessageFrames } from './message-frames.js';

export interface ServerQuestion extends DnsQuestion {
  /** DO. */
  readonly wantsDnssec: boolean;
  /** CD. */
  readonly isUnchecked: boolean;
}

interface NameServersOptions {
  readonly clock: Clock;
  /** The current servers, in the order in which they are asked. */
  readonly servers: () => readonly HostPort[];
  /** Limit on questions in flight; further ones wait. Default 100. */
  readonly maxInFlight?: number;
  /** Its questions are sent and given up, and answers parsed, in these turns. Default: its own. */
  readonly turns?: LoopTurns;
}

/** The means to ask a question. */
interface AskOptions {
  readonly clock: Clock;
  readonly turns: LoopTurns;
  /** Cancels the question. */
  readonly signal: AbortSignal;
  /** A socket to the server shared by several questions. Default: one for each. */
  readonly shared?: ServerSocket;
}

export interface ServerSocket {
  readonly socket: dgram.Socket;
  readonly connected: Promise<unknown>;
}

/** How long to wait for one server's answer, in milliseconds. */
const TRY_MS = 3000;

/** How many times all servers are asked. */
export const ROUNDS = 2;

/** The UDP size announced (RFC 6891, section 6.2.5): it passes all common networks unfragmented. */
export const UDP_BYTES = 1232;

/** Failures for which another server may have a better answer. */
const FAILURES: readonly number[] = [RCODE.FORMERR, RCODE.SERVFAIL, RCODE.NOTIMP, RCODE.REFUSED];

/** One attempt: sends a query to a server, returns the unparsed answer. Rejects with a VproxyError, or with `signal.reason`. */
type Exchange = (server: HostPort, query: Query, options: AskOptions) => Promise<Buffer>;

interface Query {
  readonly id: number;
  readonly question: ServerQuestion;
  readonly bytes: Buffer;
}

export class NameServers {
  readonly #options: NameServersOptions;
  readonly #asking: AskOptions;
  readonly #inFlight: Turns;
  readonly #stopping = new AbortController();

  constructor(options: NameServersOptions) {
    const { clock, maxInFlight = 100, turns = new LoopTurns() } = options;
    this.#options = options;
    this.#asking = { clock, turns, signal: this.#stopping.signal };
    this.#inFlight = new Turns(maxInFlight);
    // Every question, waiting or in flight, listens to it.
    setMaxListeners(0, this.#stopping.signal);
  }

  /**
   * Resolves with the first proper answer, or with the last failure reported by a server if there is no other. Rejects with
   * `connect-timeout`, `connect-failed`, or `cancelled` after `stop`.
   */
  ask(question: ServerQuestion): Promise<DnsMessage> {
    return this.#inFlight.run(this.#stopping.signal, () => this.#askAll(question));
  }

  /** Cancels all questions. */
  stop(): void {
    this.#stopping.abort(new VproxyError('cancelled', 'resolver stopped'));
  }

  async #askAll(question: ServerQuestion): Promise<DnsMessage> {
    let failure: DnsMessage | null = null;
    let problem = new VproxyError('connect-failed', 'no name server to ask');
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const server of this.#options.servers()) {
        try {
          const answer = await askServer(server, question, this.#asking);
          if (!FAILURES.includes(answer.rcode)) return answer;
          failure = answer;
        } catch (error) {
          if (!(error instanceof VproxyError) || error.code === 'cancelled') throw error;
          problem = error;
        }
      }
      // The servers have answered, and would say the same again.
      if (failure !== null) return failure;
    }
    throw problem;
  }
}

/** Asks one server. Rejects with `connect-timeout`, `connect-failed`, or `signal.reason` if aborted. */
export async function askServer(server: HostPort, question: ServerQuestion, options: AskOptions): Promise<DnsMessage> {
  const ask = async (exchange: Exchange, hasEdns: boolean): Promise<DnsMessage> => {
    const bytes = await options.turns.run(() => {
      options.signal.throwIfAborted();
      return exchange(server, makeQuery(question, hasEdns), options);
    });
    return options.turns.run(() => readAnswer(server, bytes));
  };
  const answer = await ask(askByUdp, true);
  if (answer.isTruncated) return ask(askByTcp, true);
  // A server without EDNS answers like this (RFC 6891, section 7).
  const knowsNoEdns = answer.edns === null && (answer.rcode === RCODE.FORMERR || answer.rcode === RCODE.NOTIMP);
  if (!knowsNoEdns) return answer;
  const plain = await ask(askByUdp, false);
  return plain.isTruncated ? ask(askByTcp, false) : plain;
}

/** Makes a query of our own: it takes only the question from the guest's message. */
function makeQuery(question: ServerQuestion, hasEdns: boolean): Query {
  const id = randomInt(0x10000);
  const message: DnsMessage = {
    id,
    isResponse: false,
    opcode: 0,
    isTruncated: false,
    wantsRecursion: true,
    canRecurse: false,
    isAuthentic: true,
    isUnchecked: question.isUnchecked,
    rcode: RCODE.NOERROR,
    question,
    answers: [],
    authorities: [],
    edns: hasEdns ? { udpBytes: UDP_BYTES, version: 0, wantsDnssec: question.wantsDnssec, errors: [] } : null,
  };
  return { id, question, bytes: formatMessage(message, MAX_MESSAGE_BYTES) };
}

const NO_SENSE = 'malformed answer';

/** Whether a message answers a query, judging by everything but its records. Throws if its question is malformed. */
function isAnswerTo({ id, question }: Query, bytes: Buffer): boolean {
  if (bytes.length < HEADER_BYTES || bytes.readUInt16BE(0) !== id || bytes.readUInt16BE(2) < 0x8000) return false;
  const asked = parseQuestion(bytes);
  if (asked === undefined) throw new Error(NO_SENSE);
  // Servers that refuse a question may omit it.
  return asked === null ? FAILURES.includes(bytes.readUInt8(3) & 15) : isSameQuestion(asked, question);
}

function readAnswer(server: HostPort, bytes: Buffer): DnsMessage {
  const answer = parseMessage(bytes);
  if (answer === null) throw failed(server, new Error(NO_SENSE));
  return answer;
}

const failed = (server: HostPort, error: unknown): VproxyError =>
  new VproxyError('connect-failed', `${formatHostPort(server)}: ${describeError(error)}`);

/** The callbacks of an exchange, for its transport. */
interface Course {
  /** Takes a message that may be the answer. */
  readonly receive: (message: Buffer) => void;
  readonly fail: (error: unknown) => void;
  readonly isOver: () => boolean;
}

/** Begins an exchange, and returns how to close it. */
type Begin = (server: HostPort, query: Query, course: Course, shared?: ServerSocket) => () => void;

/** Makes an exchange of a transport: it runs until it has an answer, fails, gets more than `maxOthers` others, or is cancelled. */
const exchangeOver =
  (maxOthers: number, begin: Begin): Exchange =>
  (server, query, { clock, shared, signal, turns }) =>
    new Promise((resolve, reject) => {
      let isOver = false;
      let otherCount = 0;
      const settle = (act: () => void): void => {
        if (isOver) return;
        isOver = true;
        cancelTimeout();
        signal.removeEventListener('abort', abort);
        close();
        act();
      };
      const fail = (error: unknown): void => settle(() => reject(failed(server, error)));
      const abort = (): void => settle(() => reject(signal.reason as Error));
      const receive = (message: Buffer): void => {
        if (isOver) return;
        try {
          if (isAnswerTo(query, message)) settle(() => resolve(message));
          else if (++otherCount > maxOthers) fail(new Error('sent other messages than the answer'));
        } catch (error) {
          fail(error);
        }
      };
      const close = begin(server, query, { receive, fail, isOver: () => isOver }, shared);
      const late = `${formatHostPort(server)}: no answer within ${TRY_MS / 1000} s`;
      const expire = (): void => settle(() => reject(new VproxyError('connect-timeout', late)));
      const cancelTimeout = clock.schedule(TRY_MS, () => void turns.run(expire));
      signal.addEventListener('abort', abort);
    });

/** The socket is connected, so that the system drops packets from others; its port is random, chosen by the system. */
export function openServerSocket({ host, port }: HostPort): ServerSocket {
  const socket = dgram.createSocket(isIPv6(host) ? 'udp6' : 'udp4');
  // An error while no question listens is too late.
  socket.on('error', () => undefined);
  const connected = once(socket, 'connect');
  // Each question sees the failure by itself.
  connected.catch(() => undefined);
  socket.connect(port, host);
  return { socket, connected };
}

/** Limit on datagrams that are not the answer, such as forged or repeated ones: each takes the time of reading a question. */
const MAX_OTHERS = 8;

const askByUdp = exchangeOver(MAX_OTHERS, (server, query, { receive, fail, isOver }, shared) => {
  const { connected, socket } = shared ?? openServerSocket(server);
  socket.on('error', fail).on('message', receive);
  const send = (): void => {
    if (!isOver()) socket.send(query.bytes, (error) => error !== null && fail(error));
  };
  connected.then(send, fail);
  return () => {
    socket.off('error', fail).off('message', receive);
    if (shared === undefined) socket.close();
  };
});

// Only the server can write to a connection, so its first message must be the answer.
const askByTcp = exchangeOver(0, (server, query, { receive, fail }) => {
  const socket = net.connect({ host: server.host, port: server.port, noDelay: true });
  const frames = new MessageFrames();
  socket.on('error', fail).once('end', () => fail(new Error('connection closed by the server')));
  guardDescriptor(socket, (why) => fail(new Error(why)));
  socket.once('connect', () => socket.write(frameMessage(query.bytes)));
  socket.on('data', (bytes) => {
    frames.push(bytes);
    const message = frames.next();
    if (message !== null) receive(message);
  });
  return () => socket.destroy();
});
