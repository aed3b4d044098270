/** What an outgoing forward says of itself and of its streams. */
import type { VproxyError } from '../errors.js';
import { type Log, makeEvent } from '../events.js';
import type { Clock } from '../util/clock.js';
import type { KnownStream } from './connection.js';
import type { DropCounts } from './datagram/flow-book.js';
import { endedStreamFields, NO_STREAM, streamFields } from './session-source.js';

interface OutgoingLogOptions {
  readonly log: Log;
  readonly clock: Clock;
  /** The id of the forward, or null. */
  readonly id: string | null;
  readonly service: string;
  /** The address in force. */
  readonly endpointText: () => string;
}

export class OutgoingLog {
  readonly #options: OutgoingLogOptions;

  constructor(options: OutgoingLogOptions) {
    this.#options = options;
  }

  /** The address in force and a service, for people. */
  nameOf(service: string): string {
    return `${this.#options.endpointText()} (${service})`;
  }

  listening(): void {
    const { endpointText, log, service } = this.#options;
    log(makeEvent('listening', `listening on ${endpointText()} for ${service}`, this.#fields(service, NO_STREAM)));
  }

  failed(message: string): void {
    const { log, service } = this.#options;
    log(makeEvent('accept-failed', message, this.#fields(service, NO_STREAM)));
  }

  /** What asked for a stream, and got none. */
  refused(message: string): void {
    const { log, service } = this.#options;
    log(makeEvent('stream-refused', message, this.#fields(service, NO_STREAM), 'warn'));
  }

  /** Messages of flows were. */
  dropped(message: string, { sendDropped, receiveDropped }: DropCounts): void {
    const { log, service } = this.#options;
    const fields = this.#fields(service, { sendDropped, receiveDropped });
    log(makeEvent('datagrams-dropped', message, fields));
  }

  opened(stream: KnownStream): void {
    const { id, service } = stream;
    const fields = this.#fields(service, streamFields(stream));
    this.#options.log(makeEvent('stream-opened', `stream ${id} to ${service} is open`, fields));
  }

  /** A stream is over. `what` asked for it. */
  closed(stream: KnownStream, reason: VproxyError | null, wasOpen: boolean, what = 'connection'): void {
    const { clock, log } = this.#options;
    const { id, service } = stream;
    const amount = `${stream.sentBytes} bytes sent, ${stream.receivedBytes} received`;
    const fields = this.#fields(service, endedStreamFields(clock.now(), stream, reason ?? {}));
    if (reason === null) {
      log(makeEvent('stream-closed', `stream ${id} to ${service} has ended: ${amount}`, fields));
    } else if (wasOpen) {
      const message = `stream ${id} to ${service} was reset: ${reason.message} (${reason.code}); ${amount}`;
      log(makeEvent('stream-reset', message, fields));
    } else {
      const message = `a ${what} to ${this.nameOf(service)} was reset: ${reason.message} (${reason.code})`;
      log(makeEvent('stream-refused', message, fields, 'warn'));
    }
  }

  #fields<Facts extends object>(service: string, facts: Facts) {
    const { endpointText, id } = this.#options;
    return { forward: id, direction: 'outgoing', endpoint: endpointText(), service, ...facts };
  }
}
