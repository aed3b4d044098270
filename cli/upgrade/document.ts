/** What a process hands to its successor: its state as one document. */
import { deserialize, serialize } from 'node:v8';
import type { ListenerCapture } from '../../lib/control/server/control-server.js';
import { VproxyError } from '../../lib/errors.js';
import { type LogEvent, makeEvent } from '../../lib/events.js';
import type { ProxyCapture } from '../../lib/proxy/proxy.js';
import type { Configuration } from '../../lib/settings/configuration.js';
import { formatCount } from '../ui/print.js';

/**
 * The form of the document. It has to be another one with every change of what is captured, wherever that is: processes
 * of different forms do not hand over to each other, and the older one goes on.
 */
export const HANDOVER_FORM = 2;

/** How the descriptor of the pipe is named in the environment of a successor. */
export const HANDOVER_VARIABLE = 'VPROXY_HANDOVER_FD';

/** The state of a process. */
export interface HandoverDocument {
  /** What is in force. */
  readonly configuration: Configuration;
  readonly proxy: ProxyCapture;
  readonly listeners: readonly ListenerCapture[];
  /** The number of sessions, streams and listening sockets. */
  readonly counts: HandoverCounts;
  /** The time of day at which it was written, in milliseconds since 1970. */
  readonly writtenAtMs: number;
}

/** The descriptor of the pipe to a predecessor, which is taken out of `environment`; null where there is none. */
export function takeHandoverDescriptor(environment: NodeJS.ProcessEnv): number | null {
  const { [HANDOVER_VARIABLE]: text } = environment;
  Reflect.deleteProperty(environment, HANDOVER_VARIABLE);
  return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : null;
}

/** What the log says of it. */
export function describeHandover({ counts, writtenAtMs }: Pick<HandoverDocument, 'counts' | 'writtenAtMs'>): LogEvent {
  const durationMs = Math.max(0, Date.now() - writtenAtMs);
  const fields = { pid: process.pid, ...counts, durationMs };
  return makeEvent('handed-over', formatHandover(fields), fields);
}

/** `handed over: 3 sessions, 214 streams, 9 listeners in 41 ms`. */
export function formatHandover({
  sessions,
  streams,
  listeners,
  durationMs,
}: HandoverCounts & { readonly durationMs: number }): string {
  const parts = [formatCount(sessions, 'session'), formatCount(streams, 'stream'), formatCount(listeners, 'listener')];
  return `handed over: ${parts.join(', ')} in ${durationMs} ms`;
}

export interface HandoverCounts {
  readonly sessions: number;
  readonly streams: number;
  readonly listeners: number;
}

/** Throws `upgrade-failed` for what is no plain data: a defect. */
export function encodeDocument(document: HandoverDocument): Buffer {
  try {
    return serialize(document);
  } catch (cause) {
    throw new VproxyError('upgrade-failed', `the state of this process cannot be written: ${String(cause)}`, { cause });
  }
}

/** `bytes` are of this form: the two processes have made sure of that. Throws `upgrade-failed`. */
export function decodeDocument(bytes: Buffer): HandoverDocument {
  try {
    return deserialize(bytes) as HandoverDocument;
  } catch (cause) {
    throw new VproxyError('upgrade-failed', `the state of the other process cannot be read: ${String(cause)}`, {
      cause,
    });
  }
}
