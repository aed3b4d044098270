/** A target that is a socket: dialled for each stream, and spliced with it. */
import type net from 'node:net';
import { type ErrorCode, systemCode } from '../errors.js';
import type { SessionStream } from '../session/session-stream.js';
import type { OnRead } from '../util/buffered-socket.js';
import { describeError } from '../util/describe-error.js';
import { resetSocket } from '../util/reset-socket.js';
import { descriptorShortage } from '../util/spare-descriptors.js';
import { filterInput } from './input-filter.js';
import { Splice } from './splice.js';
import { refuseBeyond, type Target, type TargetContext } from './target.js';

/** What a dialler reports, once, unless the socket fails before. */
export interface DialEvents {
  /** The target serves: the stream is accepted. */
  readonly answered: () => void;
  /** The target does not serve, although the socket is connected. */
  readonly refused: (code: ErrorCode, message: string) => void;
}

/** Begins to connect a socket that is read with `onread` and has `allowHalfOpen`. */
export type Dial = (onread: OnRead, events: DialEvents) => net.Socket;

export interface SocketTargetOptions {
  /** A target that does not answer is given up after this time: before the opener gives up the stream. Default 10,000. */
  readonly timeoutMs?: number;
  /** Whether the target itself is dialled, and may be told whom it serves. Default true. */
  readonly takesPreamble?: boolean;
}

/** Dials a socket for each stream. */
export class SocketTarget implements Target {
  readonly #dial: Dial;
  readonly #context: TargetContext;
  readonly #timeoutMs: number;
  readonly #takesPreamble: boolean;
  readonly #sockets = new Set<net.Socket>();

  constructor(
    dial: Dial,
    context: TargetContext,
    { timeoutMs = 10_000, takesPreamble = true }: SocketTargetOptions = {},
  ) {
    this.#dial = dial;
    this.#context = context;
    this.#timeoutMs = timeoutMs;
    this.#takesPreamble = takesPreamble;
  }

  get openCount(): number {
    return this.#sockets.size;
  }

  /** Accepts the stream when the target has answered, else refuses it with what the system said. */
  serve(stream: SessionStream): void {
    const { clock, maxStreams, name, onClosed, onOpened, preamble } = this.#context;
    if (refuseBeyond(stream, this.#sockets.size, maxStreams)) return;
    const splice = new Splice({ clock, onDone: (reason) => onClosed(stream, reason) });
    stream.attach(splice);
    const cancelTimeout = clock.schedule(this.#timeoutMs, () => {
      stream.refuse('connect-timeout', `${name} did not answer within ${this.#timeoutMs / 1000} s`);
      socket.destroy();
    });
    const refuse = (code: ErrorCode, message: string): void => {
      stream.refuse(code, `${name}: ${message}`);
      socket.destroy();
    };
    const socket = this.#dial(splice.onread, {
      answered: () => {
        cancelTimeout();
        const shortage = descriptorShortage(socket);
        if (shortage !== null) {
          refuse('connect-failed', shortage);
          return;
        }
        stream.accept();
        onOpened(stream);
      },
      refused: refuse,
    });
    this.#sockets.add(socket);
    filterInput(socket, this.#context.createFilter?.() ?? null);
    socket.once('error', (error) => {
      stream.refuse(CONNECT_CODES[systemCode(error)] ?? 'connect-failed', `${name}: ${describeError(error)}`);
    });
    socket.once('close', () => {
      cancelTimeout();
      this.#sockets.delete(socket);
    });
    if (preamble !== null && this.#takesPreamble) socket.write(preamble(stream));
    splice.join(stream, socket);
  }

  /** Resets what is still open. */
  stop(): void {
    for (const socket of this.#sockets) resetSocket(socket);
  }
}

/** What the system's errors mean for the opener; a missing socket file is a server that is not there. */
const CONNECT_CODES: Readonly<Record<string, ErrorCode>> = {
  ECONNREFUSED: 'connect-refused',
  ENOENT: 'connect-refused',
  ETIMEDOUT: 'connect-timeout',
};
