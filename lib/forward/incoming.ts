/** An incoming forward (`-i`): leads each stream that the peer opens to the service to its target. */
import type { VproxyError } from '../errors.js';
import type { SessionStream } from '../session/session-stream.js';
import type { Clock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import type { Log, LogLevel } from '../util/log-event.js';
import type { EndpointKinds } from './endpoint-kind.js';
import { ENDPOINT_KINDS, kindOf } from './endpoint-kinds.js';
import { type ForwardSpec, formatEndpoint } from './spec.js';
import type { Target } from './target.js';

export interface IncomingOptions {
  readonly log: Log;
  readonly clock: Clock;
  /** Streams served at once, those being closed included. */
  readonly maxStreams: number;
  /** Default {@link ENDPOINT_KINDS}. */
  readonly kinds?: EndpointKinds;
}

export class IncomingForward {
  readonly spec: ForwardSpec;
  readonly #options: IncomingOptions;
  readonly #endpointText: string;
  readonly #target: Target;

  /** Throws `bad-argument` for an endpoint that cannot be a target. */
  constructor(spec: ForwardSpec, options: IncomingOptions) {
    const { clock, maxStreams, kinds = ENDPOINT_KINDS } = options;
    this.spec = spec;
    this.#options = options;
    this.#endpointText = formatEndpoint(spec.endpoint, kinds);
    const kind = kindOf(spec.endpoint, kinds, 'createTarget', `-i ${spec.service}`);
    this.#target = kind.createTarget(spec.endpoint, {
      name: this.#name,
      clock,
      maxStreams,
      onOpened: (stream) => this.#opened(stream),
      onClosed: (stream, reason) => this.#closed(stream, reason),
      log: (level, event, message, stream) => this.#log(level, event, message, stream),
    });
  }

  /** Serves one stream: accepts it when its target works, else refuses it with what was wrong. */
  serve(stream: SessionStream): void {
    this.#target.serve(stream);
  }

  /** Ends what is still open. */
  async stop(): Promise<void> {
    await this.#target.stop();
  }

  #opened(stream: SessionStream): void {
    const from = escapeText(stream.from ?? 'the peer', 80);
    this.#log('debug', 'stream-opened', `stream ${stream.id} from ${from} to ${this.#name} is open`, stream);
  }

  #closed(stream: SessionStream, reason: VproxyError | null): void {
    const amount = `${stream.sentBytes} bytes sent, ${stream.receivedBytes} received`;
    if (reason === null) {
      this.#log('debug', 'stream-closed', `stream ${stream.id} to ${this.#name} has ended: ${amount}`, stream);
    } else {
      const message = `stream ${stream.id} to ${this.#name}: ${reason.message} (${reason.code}); ${amount}`;
      this.#log('info', 'stream-reset', message, stream);
    }
  }

  get #name(): string {
    return `${this.#endpointText} (${this.spec.service})`;
  }

  #log(level: LogLevel, event: string, message: string, stream?: SessionStream): void {
    const fields = { service: this.spec.service, endpoint: this.#endpointText, stream: stream?.id ?? null };
    this.#options.log({ level, event, message, fields });
  }
}
