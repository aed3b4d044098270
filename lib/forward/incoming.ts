/** An incoming forward (`-i`): dials a local target for each stream that the peer opens to the service. */
import net from 'node:net';
import { type ErrorCode, systemCode, type VproxyError } from '../errors.js';
import type { SessionStream } from '../session/session-stream.js';
import type { Clock } from '../util/clock.js';
import { describeError } from '../util/describe-error.js';
import { escapeText } from '../util/escape.js';
import type { Log } from '../util/log-event.js';
import { resetSocket } from '../util/reset-socket.js';
import { type ForwardSpec, formatEndpoint } from './spec.js';
import { Splice } from './splice.js';

/** A target that does not answer is given up after this time: before the opener gives up the stream. */
const CONNECT_TIMEOUT_MS = 10_000;

export interface IncomingOptions {
  readonly log: Log;
  readonly clock: Clock;
  /** Sockets to targets at once, those being closed included. */
  readonly maxSockets: number;
}

export class IncomingForward {
  readonly spec: ForwardSpec;
  readonly #options: IncomingOptions;
  readonly #sockets = new Set<net.Socket>();

  constructor(spec: ForwardSpec, options: IncomingOptions) {
    this.spec = spec;
    this.#options = options;
  }

  /** Serves one stream: accepted when the target has answered, else refused with what the system said. */
  serve(stream: SessionStream): void {
    const { clock, maxSockets } = this.#options;
    if (this.#sockets.size >= maxSockets) {
      stream.refuse('too-many-streams', `${maxSockets} connections to the target are open or being closed`);
      return;
    }
    const splice = new Splice({ onDone: (reason) => this.#closed(stream, reason) });
    stream.attach(splice);
    const { endpoint } = this.spec;
    const address = endpoint.kind === 'unix' ? { path: endpoint.path } : { host: endpoint.host, port: endpoint.port };
    // Node reads into the buffers of `onread`, which its types state for TCP only.
    const options = { ...address, allowHalfOpen: true, noDelay: true, onread: splice.onread };
    const socket = net.connect(options as net.NetConnectOpts);
    this.#sockets.add(socket);
    const cancelTimeout = clock.schedule(CONNECT_TIMEOUT_MS, () => {
      stream.refuse('connect-timeout', `${this.#target()} did not answer within ${CONNECT_TIMEOUT_MS / 1000} s`);
      socket.destroy();
    });
    socket.once('connect', () => {
      cancelTimeout();
      stream.accept();
      this.#log(
        'debug',
        'stream-opened',
        `stream ${stream.id} from ${fromWhom(stream)} to ${this.#target()} is open`,
        stream,
      );
    });
    socket.once('error', (error) => {
      stream.refuse(CONNECT_CODES[systemCode(error)] ?? 'connect-failed', `${this.#target()}: ${describeError(error)}`);
    });
    socket.once('close', () => {
      cancelTimeout();
      this.#sockets.delete(socket);
    });
    splice.join(stream, socket);
  }

  /** Resets what is still open. */
  stop(): void {
    for (const socket of this.#sockets) resetSocket(socket);
  }

  #closed(stream: SessionStream, reason: VproxyError | null): void {
    const amount = `${stream.sentBytes} bytes sent, ${stream.receivedBytes} received`;
    if (reason === null) {
      this.#log('debug', 'stream-closed', `stream ${stream.id} to ${this.#target()} has ended: ${amount}`, stream);
    } else {
      const message = `stream ${stream.id} to ${this.#target()}: ${reason.message} (${reason.code}); ${amount}`;
      this.#log('info', 'stream-reset', message, stream);
    }
  }

  #target(): string {
    return `${formatEndpoint(this.spec.endpoint)} (${this.spec.service})`;
  }

  #log(level: 'debug' | 'info', event: string, message: string, stream: SessionStream): void {
    const fields = { service: this.spec.service, endpoint: formatEndpoint(this.spec.endpoint), stream: stream.id };
    this.#options.log({ level, event, message, fields });
  }
}

/** What the system's errors mean for the opener; a missing socket file is a server that is not there. */
const CONNECT_CODES: Readonly<Record<string, ErrorCode>> = {
  ECONNREFUSED: 'connect-refused',
  ENOENT: 'connect-refused',
  ETIMEDOUT: 'connect-timeout',
};

const fromWhom = ({ from }: SessionStream): string => escapeText(from ?? 'the peer', 80);
