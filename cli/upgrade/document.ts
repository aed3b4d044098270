/** What a process hands to its successor: its state as one document. */
import { DefaultDeserializer, DefaultSerializer } from 'node:v8';
import type { ListenerCapture } from '../../lib/control/server/control-server.js';
import { VproxyError } from '../../lib/errors.js';
import { type LogEvent, makeEvent } from '../../lib/events.js';
import type { ProxyState } from '../../lib/proxy/proxy.js';
import type { Configuration } from '../../lib/settings/configuration.js';
import { copyAlone } from '../../lib/util/bytes/byte-queue.js';
import { formatCount } from '../ui/print.js';

/** The state of a process. Its form (`form.ts`) follows from the types that it consists of. */
export interface HandoverDocument {
  /** What is in force. */
  readonly configuration: Configuration;
  readonly proxy: ProxyState;
  readonly listeners: readonly ListenerCapture[];
  /** The number of sessions, streams and listening sockets. */
  readonly counts: HandoverCounts;
  /** The time of day at which it was written, in milliseconds since 1970. */
  readonly writtenAtMs: number;
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

/** How much these states have. */
export function countHandover({ channels }: ProxyState, control: readonly ListenerCapture[]): HandoverCounts {
  const sessions = channels.flatMap(({ supervisor: { session } }) => session?.state ?? []);
  const listening = channels.flatMap(({ forwards, storage, supervisor }) => [
    supervisor.listener ?? [],
    ...forwards.map(({ forward }) => forward.listener ?? []),
    storage,
  ]);
  return {
    sessions: sessions.length,
    streams: sessions.flatMap(({ streams }) => streams).length,
    listeners: listening.flat().length + control.length,
  };
}

/** Bytes of at least this length follow the document: neither process has them twice. */
const PIECE_BYTES = 4096;

/** A document as bytes, and the longer pieces of bytes in it, which follow in this order. */
export interface EncodedDocument {
  readonly bytes: Buffer;
  readonly pieces: readonly Buffer[];
}

/** Throws `upgrade-failed` for what is no plain data: a defect. */
export function encodeDocument(document: HandoverDocument): EncodedDocument {
  try {
    const serializer = new DocumentSerializer();
    serializer.writeHeader();
    serializer.writeValue(document);
    return { bytes: serializer.releaseBuffer(), pieces: serializer.pieces };
  } catch (cause) {
    throw new VproxyError('upgrade-failed', `the state of this process cannot be written: ${String(cause)}`, { cause });
  }
}

/** `bytes` are of this form: the two processes have made sure of that. `receive` gives the next piece. Throws `upgrade-failed`. */
export function decodeDocument(bytes: Buffer, receive: (byteCount: number) => Buffer): HandoverDocument {
  try {
    const deserializer = new DocumentDeserializer(bytes, receive);
    deserializer.readHeader();
    return deserializer.readValue() as HandoverDocument;
  } catch (cause) {
    throw new VproxyError('upgrade-failed', `the state of the other process cannot be read: ${String(cause)}`, {
      cause,
    });
  }
}

/** Each buffer as its length; a short one is behind it. */
class DocumentSerializer extends DefaultSerializer {
  readonly pieces: Buffer[] = [];

  /** Called by V8 for each buffer. */
  _writeHostObject(bytes: Buffer): void {
    this.writeUint32(bytes.length);
    if (bytes.length < PIECE_BYTES) this.writeRawBytes(bytes);
    else this.pieces.push(bytes);
  }
}

class DocumentDeserializer extends DefaultDeserializer {
  readonly #receive: (byteCount: number) => Buffer;

  constructor(bytes: Buffer, receive: (byteCount: number) => Buffer) {
    super(bytes);
    this.#receive = receive;
  }

  /** Called by V8 for each buffer, in the order in which they were written. */
  _readHostObject(): Buffer {
    const byteCount = this.readUint32();
    // A view would keep the whole document, which is overwritten when everything is taken up.
    return byteCount < PIECE_BYTES ? copyAlone(this.readRawBytes(byteCount)) : this.#receive(byteCount);
  }
}
