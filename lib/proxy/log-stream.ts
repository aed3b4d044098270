/** The life of a stream that a program opened, in the log. */
import { toVproxyError } from '../errors.js';
import { type Log, makeEvent } from '../events.js';
import { endedStreamFields, streamFields } from '../forward/session-source.js';
import type { MuxStream } from '../session/mux-stream.js';
import type { Clock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';

/** Logs the opening and the end of a stream, as forwards do for theirs; the same stream comes back. */
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
