/** What a channel says in the log and in the audit log of its proxy: its events, named after it, and limited. */
import { toVproxyError } from '../errors.js';
import { LOG_EVENTS, type Log, type LogEvent, makeEvent } from '../events.js';
import { endedStreamFields, streamFields } from '../forward/session-source.js';
import type { MuxStream } from '../session/mux-stream.js';
import type { Clock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import { DEFAULT_LABEL } from './channel-options.js';
import { auditPart, boundLogEvent, type LineBytes, LogLimit, logPart } from './log-limit.js';

interface ChannelLogOptions {
  /** The channel's label. */
  readonly label: string;
  readonly clock: Clock;
  /** How many bytes an event takes in the log. */
  readonly lineBytes: LineBytes;
  /** The log and the audit log of the proxy. */
  readonly log: Log;
  readonly audit: Log;
  /** Whether somebody takes the audit log. */
  readonly isAuditing: () => boolean;
}

/** The log of one channel. */
export class ChannelLog {
  readonly #log: LogLimit;
  readonly #audit: LogLimit;
  readonly #isAuditing: () => boolean;

  constructor({ label, clock, lineBytes, log, audit, isAuditing }: ChannelLogOptions) {
    const prefix = label === DEFAULT_LABEL ? '' : `${label}: `;
    const named = ({ level, event, message, fields }: LogEvent): LogEvent => {
      return { level, event, message: `${prefix}${message}`, fields: { channel: label, ...fields } };
    };
    this.#isAuditing = isAuditing;
    this.#log = new LogLimit({ log, clock, named, partOf: logPart, bytesOf: lineBytes });
    this.#audit = new LogLimit({ log: audit, clock, named, partOf: auditPart });
  }

  readonly log: Log = (given) => {
    const event = boundLogEvent(given);
    if (LOG_EVENTS[event.event].isAudited && this.#isAuditing()) this.#audit.log(event);
    this.#log.log(event);
  };

  /** Says now what was left out and not told yet. */
  stop(): void {
    this.#log.stop();
    this.#audit.stop();
  }
}

/** Logs the opening and the end of a stream that a program opened, as forwards do for theirs; the same stream comes back. */
export function logStream(stream: MuxStream, clock: Clock, log: Log): MuxStream {
  const { service } = stream;
  let isOpen = false;
  stream.once('connect', () => {
    isOpen = true;
    const message = `stream ${stream.id} to ${service} is open`;
    log(makeEvent('stream-opened', message, { service, ...streamFields(stream) }));
  });
  stream.once('close', () => {
    const { id, sentBytes, receivedBytes, errored } = stream;
    const amount = `${sentBytes} bytes sent, ${receivedBytes} received`;
    const reason = errored === null ? null : toVproxyError(errored, 'cancelled');
    const fields = { service, ...endedStreamFields(clock.now(), stream, reason ?? {}) };
    if (reason === null) {
      log(makeEvent('stream-closed', `stream ${id} to ${service} has ended: ${amount}`, fields));
      return;
    }
    const why = `${escapeText(reason.message)} (${escapeText(reason.code, 64)})`;
    if (isOpen) log(makeEvent('stream-reset', `stream ${id} to ${service} was reset: ${why}; ${amount}`, fields));
    else log(makeEvent('stream-refused', `a stream to ${service} was refused: ${why}`, fields, 'warn'));
  });
  return stream;
}
