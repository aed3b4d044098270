/** The state that a process hands to its successor, as one document. */

import { DefaultDeserializer, DefaultSerializer } from 'node:v8';
import type { ListenerCapture } from '../../lib/control/server/control-server.js';
import { VproxyError } from '../../lib/errors.js';
import { type LogEvent, makeEvent } from '../../lib/events.js';
import type { ProxyChannelState } from '../../lib/proxy/channel/channel-context.js';
import type { HttpPortsState } from '../../lib/proxy/ports/http-ports.js';
import type { ProxyState } from '../../lib/proxy/proxy-options.js';
import type { MachineHistory } from '../../lib/services/machine-history.js';
import type { ProcessConfiguration } from '../../lib/settings/configuration.js';
import { copyAlone } from '../../lib/util/bytes/byte-queue.js';
import { formatCount } from '../../lib/util/units.js';

/** The state of a process. Its form (`form.ts`) is derived from its types. */
export interface HandoverDocument {
  readonly configuration: ProcessConfiguration;
  readonly proxy: ProxyState;
  /** Idle channels, encoded in parts: the successor restores them after those of `proxy`. */
  readonly idle: readonly EncodedDocument[];
  readonly listeners: readonly ListenerCapture[];
  readonly httpPorts: HttpPortsState | null;
  /** What was done to the machine, which its limits take into account. */
  readonly machine: MachineHistory;
  readonly counts: HandoverCounts;
  /** When it was written, in milliseconds since 1970. */
  readonly writtenAtMs: number;
}

/** Returns its log event. */
export function describeHandover({ counts, writtenAtMs }: Pick<HandoverDocument, 'counts' | 'writtenAtMs'>): LogEvent {
  const durationMs = Math.max(0, Date.now() - writtenAtMs);
  const fields = { pid: process.pid, ...counts, durationMs };
  return makeEvent('handed-over', formatHandover(fields), fields);
}

/** Formats `handed over: 3 sessions, 214 streams, 9 listeners in 41 ms`. */
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

/** `ofProcess`: its own listeners. */
export function countHandover({ channels }: ProxyState, ofProcess: readonly unknown[]): HandoverCounts {
  const sessions = channels.flatMap(({ supervisor: { session } }) => session?.state ?? []);
  const listening = channels.flatMap(({ forwards, storage, supervisor }) => [
    supervisor.listener ?? [],
    ...forwards.map(({ forward }) => forward.listener ?? []),
    storage,
  ]);
  return {
    sessions: sessions.length,
    streams: sessions.flatMap(({ streams }) => streams).length,
    listeners: listening.flat().length + ofProcess.length,
  };
}

/** Buffers of at least this length are sent after the document, so that neither process holds them twice. */
const PIECE_BYTES = 4096;

/** An encoded document, and the longer buffers in it, which are sent after it in this order. */
export interface EncodedDocument {
  readonly bytes: Buffer;
  readonly pieces: readonly Buffer[];
}

/** Throws `upgrade-failed` for values that are not plain data: a defect. */
export function encodeDocument(document: HandoverDocument | readonly ProxyChannelState[]): EncodedDocument {
  try {
    const serializer = new DocumentSerializer();
    serializer.writeHeader();
    serializer.writeValue(document);
    return { bytes: serializer.releaseBuffer(), pieces: serializer.pieces };
  } catch (cause) {
    throw new VproxyError('upgrade-failed', `cannot write the state of this process: ${String(cause)}`, { cause });
  }
}

/** Decodes `bytes`, whose form the two processes have verified. `receive` returns the next piece. Throws `upgrade-failed`. */
export function decodeDocument(bytes: Buffer, receive: (byteCount: number) => Buffer): unknown {
  try {
    const deserializer = new DocumentDeserializer(bytes, receive);
    deserializer.readHeader();
    return deserializer.readValue() as unknown;
  } catch (cause) {
    throw new VproxyError('upgrade-failed', `cannot read the state of the other process: ${String(cause)}`, {
      cause,
    });
  }
}

/** A part is decoded in about a millisecond. */
const PART_CHANNELS = 16;

export function encodeIdle(idle: readonly ProxyChannelState[]): EncodedDocument[] {
  const starts = [...idle.keys()].filter((index) => index % PART_CHANNELS === 0);
  return starts.map((start) => encodeDocument(idle.slice(start, start + PART_CHANNELS)));
}

/** Decodes the parts one by one, and erases the secrets in each. */
export function* decodeIdle(idle: HandoverDocument['idle']): Generator<ProxyChannelState> {
  for (const { bytes, pieces } of idle) {
    const rest = pieces.values();
    const part = decodeDocument(bytes, () => rest.next().value as Buffer) as readonly ProxyChannelState[];
    bytes.fill(0);
    yield* part;
  }
}

/** Writes each buffer as its length, followed by the bytes if it is short. */
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
    // A view would keep the whole document alive, which is overwritten after the takeover.
    return byteCount < PIECE_BYTES ? copyAlone(this.readRawBytes(byteCount)) : this.#receive(byteCount);
  }
}
