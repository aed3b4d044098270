/** The payloads of control frames: bytes ⇄ values. HELLO has a file of its own. */
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import { formatFrameType } from './header.js';
import { boundedMessage, decodeObject, decodeReason, isObject, type Reason } from './json.js';
import { MAX_ANNOUNCED_PORTS, MAX_CONTROL_BYTES, MAX_PROGRAM_LENGTH, SERVICE_NAME } from './limits.js';

/** What OPEN says. */
export interface OpenRequest {
  readonly service: string;
  /** Where the local socket came from, for logs; a peer's word, not to be trusted. */
  readonly from: string | null;
  /** Whether the bytes of the stream are messages (R-DGRAM-1). Default false. */
  readonly isDatagram?: boolean;
}

/** What GOAWAY says. */
export interface Goaway extends Reason {
  /** The highest stream id of the receiver that will still be served. */
  readonly last: number;
}

const encodeJson = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

export function encodeOpen({ service, from, isDatagram = false }: OpenRequest): Buffer {
  const origin = from === null ? {} : { from: from.slice(0, 256) };
  return encodeJson({ service, ...origin, ...(isDatagram ? { datagram: true } : {}) });
}

/** The service is any text here: whether it is a valid name decides how the stream is answered, not the session. */
export function decodeOpen(payload: Uint8Array): OpenRequest {
  const { service, from, datagram } = decodeObject(payload, 'OPEN');
  if (typeof service !== 'string') throw new VproxyError('protocol-error', 'OPEN has no service');
  if (from !== undefined && from !== null && typeof from !== 'string') {
    throw new VproxyError('protocol-error', 'the field from of OPEN is not a text');
  }
  if (datagram !== undefined && datagram !== null && typeof datagram !== 'boolean') {
    throw new VproxyError('protocol-error', 'the field datagram of OPEN is not a boolean');
  }
  return { service, from: from ?? null, isDatagram: datagram ?? false };
}

export function encodeReason({ code, message }: Reason): Buffer {
  return encodeJson({ code, message: boundedMessage(message) });
}

/** The reason in a REFUSE, STOP or RESET; the message is escaped and cut for showing it. */
export function decodeReasonPayload(payload: Uint8Array, what: string): Reason {
  return decodeReason(decodeObject(payload, what), what);
}

export function encodeGoaway({ code, message, last }: Goaway): Buffer {
  return encodeJson({ code, message: boundedMessage(message), last });
}

export function decodeGoaway(payload: Uint8Array): Goaway {
  const object = decodeObject(payload, 'GOAWAY');
  const { last } = object;
  if (!isUnsigned32(last)) throw new VproxyError('protocol-error', 'the field last of GOAWAY is not a stream id');
  return { ...decodeReason(object, 'GOAWAY'), last };
}

/** A port of the sender's machine that somebody listens on (R-SERVICES-3). */
export interface AnnouncedPort {
  /** 1 to 65,535. */
  readonly port: number;
  /** Whose it is, at most 32 characters; null where that is not known. One that came is escaped for showing it. */
  readonly program: string | null;
}

/**
 * One list of services as the payloads of one or more SERVICES frames; the last has the time of day and the announced ports, at
 * most 64, where there are any to tell (R-SERVICES-1, R-SERVICES-3).
 */
export function encodeServices(
  services: readonly string[],
  timeMs: number | null = null,
  ports: readonly AnnouncedPort[] | null = null,
): Buffer[] {
  const payloads: Buffer[] = [];
  let batch: string[] = [];
  let batchBytes = 0;
  for (const service of services) {
    // A name is ASCII of at most 64 characters; quotes, comma and the frame's other fields take the rest.
    if (batchBytes + service.length + 3 > MAX_CONTROL_BYTES - 64) {
      payloads.push(encodeJson({ services: batch, more: true }));
      batch = [];
      batchBytes = 0;
    }
    batch.push(service);
    batchBytes += service.length + 3;
  }
  const facts = {
    ...(timeMs === null ? {} : { time: Math.round(timeMs) }),
    ...(ports === null ? {} : { ports: ports.slice(0, MAX_ANNOUNCED_PORTS).map(encodePort) }),
  };
  const last = encodeJson({ services: batch, ...facts });
  if (last.length <= MAX_CONTROL_BYTES) return [...payloads, last];
  // 64 ports fill a frame by themselves.
  return [...payloads, encodeJson({ services: batch, more: true }), encodeJson({ services: [], ...facts })];
}

/** Of a program only what JSON takes as it is, so that its length is that of its bytes. */
function encodePort({ port, program }: AnnouncedPort): object {
  const plain = program?.slice(0, MAX_PROGRAM_LENGTH).replace(/[^ -~]|["\\]/g, '?') ?? '';
  return plain === '' ? { port } : { port, program: plain };
}

/** What SERVICES says. */
export interface ServiceList {
  readonly services: string[];
  readonly more: boolean;
  /** The sender's time of day in milliseconds since 1970, or null. */
  readonly timeMs: number | null;
  /** The ports that the sender announces, each once, the first of equal ones; null where it says nothing of ports. */
  readonly ports: AnnouncedPort[] | null;
}

export function decodeServices(payload: Uint8Array): ServiceList {
  const { services, more = false, time = null, ports = null } = decodeObject(payload, 'SERVICES');
  const isName = (name: unknown): name is string => typeof name === 'string' && SERVICE_NAME.test(name);
  if (!Array.isArray(services) || !services.every(isName)) {
    throw new VproxyError('protocol-error', 'SERVICES is not a list of names of services');
  }
  if (typeof more !== 'boolean') throw new VproxyError('protocol-error', 'the field more of SERVICES is not a boolean');
  if (time !== null && !(Number.isSafeInteger(time) && (time as number) >= 0)) {
    throw new VproxyError('protocol-error', 'the field time of SERVICES is not a time');
  }
  return { services, more, timeMs: time as number | null, ports: ports === null ? null : decodePorts(ports) };
}

function decodePorts(value: unknown): AnnouncedPort[] {
  const fail = (): never => {
    throw new VproxyError(
      'protocol-error',
      `the field ports of SERVICES is not a list of at most ${MAX_ANNOUNCED_PORTS} ports`,
    );
  };
  if (!Array.isArray(value) || value.length > MAX_ANNOUNCED_PORTS) return fail();
  const ports = new Map<number, AnnouncedPort>();
  for (const one of value as unknown[]) {
    if (!isObject(one)) return fail();
    const { port, program = null } = one;
    if (!Number.isInteger(port) || (port as number) < 1 || (port as number) > 65_535) return fail();
    if (program !== null && typeof program !== 'string') return fail();
    const name = program === null || program === '' ? null : escapeText(program, MAX_PROGRAM_LENGTH);
    if (!ports.has(port as number)) ports.set(port as number, { port: port as number, program: name });
  }
  return [...ports.values()];
}

/** The payload of a frame that has a fixed size: ACCEPT and FIN are empty, PING and PONG have 8 bytes. Throws `protocol-error`. */
export function requireLength(type: number, payload: Buffer, bytes: number): Buffer {
  if (payload.length === bytes) return payload;
  throw new VproxyError('protocol-error', `${formatFrameType(type)} of ${payload.length} bytes instead of ${bytes}`);
}

/** Writes a total of bytes (u64) at `offset`. Totals above 2^53−1 cannot come up: 2^53 bytes are nine petabytes. */
export function writeTotal(buffer: Buffer, offset: number, totalBytes: number): void {
  buffer.writeUInt32BE(Math.floor(totalBytes / 2 ** 32), offset);
  buffer.writeUInt32BE(totalBytes % 2 ** 32, offset + 4);
}

/** A total of bytes (u64) at the start of `payload`; a value above 2^53−1 counts as 2^53−1. */
export function readTotal(payload: Buffer): number {
  const total = payload.readUInt32BE(0) * 2 ** 32 + payload.readUInt32BE(4);
  return Math.min(total, Number.MAX_SAFE_INTEGER);
}

/** The payload of a CREDIT or an ACK is such a total. */
export const TOTAL_BYTES = 8;

/** What a CREDIT or an ACK says, in bytes. Throws `protocol-error`. */
export const decodeTotal = (type: number, payload: Buffer): number =>
  readTotal(requireLength(type, payload, TOTAL_BYTES));

function isUnsigned32(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 0xffff_ffff;
}
