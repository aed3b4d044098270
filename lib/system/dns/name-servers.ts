/** Asks the servers of this machine: a question at a time from a socket of its own, by UDP, and by TCP what is too long for that (RFC 5452, section 9). */
import { randomInt } from 'node:crypto';
import dgram from 'node:dgram';
import { once, setMaxListeners } from 'node:events';
import net from 'node:net';
import { VproxyError } from '../../errors.js';
import { formatHostPort, type HostPort } from '../../util/addresses.js';
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

/** What is asked, and how. */
export interface ServerQuestion extends DnsQuestion {
  /** DO. */
  readonly wantsDnssec: boolean;
  /** CD. */
  readonly isUnchecked: boolean;
}

interface NameServersOptions {
  readonly clock: Clock;
  /** The servers of the moment, in the order in which they are asked. */
  readonly servers: () => readonly HostPort[];
  /** Questions that are asked at once; further ones wait. Default 100. */
  readonly maxInFlight?: number;
  /** Where answers are read, in turns with all others. Default: turns of its own. */
  readonly turns?: LoopTurns;
}

/** What a question is asked with. */
interface AskOptions {
  readonly clock: Clock;
  readonly turns: LoopTurns;
  /** Gives the question up. */
  readonly signal: AbortSignal;
  /** A socket to the server that several questions share. Default: one for each. */
  readonly shared?: ServerSocket;
}

/** A socket of UDP to a server. */
export interface ServerSocket {
  readonly socket: dgram.Socket;
  readonly connected: Promise<unknown>;
}

/** For an answer of one server, in milliseconds. */
const TRY_MS = 3000;

/** How often all servers are asked. */
export const ROUNDS = 2;

/** What this side says that it takes by UDP (RFC 6891, section 6.2.5): what passes all common networks in one piece. */
export const UDP_BYTES = 1232;

/** Answers that another server may give better. */
const FAILURES: readonly number[] = [RCODE.FORMERR, RCODE.SERVFAIL, RCODE.NOTIMP, RCODE.REFUSED];

/** One try: bytes to a server, and those of its answer, whose records are still to be read. Rejects with a VproxyError, or with `signal.reason`. */
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
    // Each question that waits, or is asked, listens to it.
    setMaxListeners(0, this.#stopping.signal);
  }

  /**
   * The first answer that is one; the last failure that a server has told, where that is all there is. Rejects with `connect-timeout` or
   * `connect-failed`, and with `cancelled` when it was stopped.
   */
  ask(question: ServerQuestion): Promise<DnsMessage> {
    return this.#inFlight.run(this.#stopping.signal, () => this.#askAll(question));
  }

  /** Gives all questions up. */
  stop(): void {
    this.#stopping.abort(new VproxyError('cancelled', 'the resolver is stopped'));
  }

  async #askAll(question: ServerQuestion): Promise<DnsMessage> {
    let failure: DnsMessage | null = null;
    let problem = new VproxyError('connect-failed', 'there is no server to ask');
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
      // They have been heard, and say the same when they are asked again.
      if (failure !== null) return failure;
    }
    throw problem;
  }
}

/** What one server answers. Rejects with `connect-timeout` or `connect-failed`, and with `signal.reason` where that is aborted. */
export async function askServer(server: HostPort, question: ServerQuestion, options: AskOptions): Promise<DnsMessage> {
  const ask = async (exchange: Exchange, hasEdns: boolean): Promise<DnsMessage> => {
    options.signal.throwIfAborted();
    const bytes = await exchange(server, makeQuery(question, hasEdns), options);
    return options.turns.run(() => readAnswer(server, bytes));
  };
  const answer = await ask(askByUdp, true);
  if (answer.isTruncated) return ask(askByTcp, true);
  // A server that knows no EDNS says so by this (RFC 6891, section 7).
  const knowsNoEdns = answer.edns === null && (answer.rcode === RCODE.FORMERR || answer.rcode === RCODE.NOTIMP);
  if (!knowsNoEdns) return answer;
  const plain = await ask(askByUdp, false);
  return plain.isTruncated ? ask(askByTcp, false) : plain;
}

/** A question of ours: of what the guest sent only the question is in it. */
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

const NO_SENSE = 'its answer makes no sense';

/** Whether a message is the answer to a query, as far as its records do not tell. Throws where its question makes no sense. */
function isAnswerTo({ id, question }: Query, bytes: Buffer): boolean {
  if (bytes.length < HEADER_BYTES || bytes.readUInt16BE(0) !== id || bytes.readUInt16BE(2) < 0x8000) return false;
  const asked = parseQuestion(bytes);
  if (asked === undefined) throw new Error(NO_SENSE);
  // Servers that refuse a question may leave it out.
  return asked === null ? FAILURES.includes(bytes.readUInt8(3) & 15) : isSameQuestion(asked, question);
}

function readAnswer(server: HostPort, bytes: Buffer): DnsMessage {
  const answer = parseMessage(bytes);
  if (answer === null) throw failed(server, new Error(NO_SENSE));
  return answer;
}

const failed = (server: HostPort, error: unknown): VproxyError =>
  new VproxyError('connect-failed', `${formatHostPort(server)}: ${describeError(error)}`);

/** What becomes of an exchange, for whatever carries it. */
interface Course {
  /** A message has come, which may be the answer. */
  readonly receive: (message: Buffer) => void;
  readonly fail: (error: unknown) => void;
  readonly isOver: () => boolean;
}

/** An exchange over what `begin` opens: until there is an answer, it fails or it is given up. Then what `begin` came back with closes it. */
const exchangeOver =
  (begin: (server: HostPort, query: Query, course: Course, shared?: ServerSocket) => () => void): Exchange =>
  (server, query, { clock, shared, signal }) =>
    new Promise((resolve, reject) => {
      let isOver = false;
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
        try {
          if (!isOver && isAnswerTo(query, message)) settle(() => resolve(message));
        } catch (error) {
          fail(error);
        }
      };
      const close = begin(server, query, { receive, fail, isOver: () => isOver }, shared);
      const late = `${formatHostPort(server)} did not answer within ${TRY_MS / 1000} s`;
      const cancelTimeout = clock.schedule(TRY_MS, () =>
        settle(() => reject(new VproxyError('connect-timeout', late))),
      );
      signal.addEventListener('abort', abort);
    });

/** The socket is connected, so that the system drops what others send; and its port is a random one of the system's. */
export function openServerSocket({ host, port }: HostPort): ServerSocket {
  const socket = dgram.createSocket(net.isIPv6(host) ? 'udp6' : 'udp4');
  // What comes when no question listens is too late.
  socket.on('error', () => undefined);
  const connected = once(socket, 'connect');
  // It is told to the questions, if there are any.
  connected.catch(() => undefined);
  socket.connect(port, host);
  return { socket, connected };
}

const askByUdp = exchangeOver((server, query, { receive, fail, isOver }, shared) => {
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

const askByTcp = exchangeOver((server, query, { receive, fail, isOver }) => {
  const socket = net.connect({ host: server.host, port: server.port, noDelay: true });
  const frames = new MessageFrames();
  socket.on('error', fail).once('end', () => fail(new Error('it closed the connection')));
  guardDescriptor(socket, (why) => fail(new Error(why)));
  socket.once('connect', () => socket.write(frameMessage(query.bytes)));
  socket.on('data', (bytes) => {
    try {
      frames.push(bytes);
      for (let message = frames.next(); message !== null && !isOver(); message = frames.next()) receive(message);
    } catch (error) {
      fail(error);
    }
  });
  return () => socket.destroy();
});
