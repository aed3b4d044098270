/** The life of a stream that a program opened, in the log. */
import { toVproxyError } from '../errors.js';
import { streamFields } from '../forward/session-source.js';
import type { MuxStream } from '../session/mux-stream.js';
import type { Clock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import type { Log } from '../util/log-event.js';

/** Logs the opening and the end of a stream, as forwards do for theirs; the same stream comes back. */
export function logStream(stream: MuxStream, clock: Clock, log: Log): MuxStream {
  const { service } = stream;
  let isOpen = false;
  stream.once('connect', () => {
    isOpen = true;
    const message = `stream ${stream.id} to ${service} is open`;
    log({ level: 'debug', event: 'stream-opened', message, fields: { service, ...streamFields(clock.now(), stream) } });
  });
  stream.once('close', () => {
    const { id, sentBytes, receivedBytes, errored } = stream;
    const amount = `${sentBytes} bytes sent, ${receivedBytes} received`;
    if (errored === null) {
      const message = `stream ${id} to ${service} has ended: ${amount}`;
      log({
        level: 'debug',
        event: 'stream-closed',
        message,
        fields: { service, ...streamFields(clock.now(), stream, {}) },
      });
      return;
    }
    const reason = toVproxyError(errored, 'cancelled');
    const why = `${escapeText(reason.message)} (${escapeText(reason.code, 64)})`;
    const message = isOpen
      ? `stream ${id} to ${service} was reset: ${why}; ${amount}`
      : `a stream to ${service} was refused: ${why}`;
    const event = isOpen ? 'stream-reset' : 'stream-refused';
    log({
      level: isOpen ? 'info' : 'warn',
      event,
      message,
      fields: { service, ...streamFields(clock.now(), stream, reason) },
    });
  });
  return stream;
}
