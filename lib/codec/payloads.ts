/** The payloads of control frames: bytes ⇄ values. HELLO has its own file. */
import { protocolError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import { type ControlType, formatFrameType } from './header.js';
import { boundedMessage, decodeObject, decodeReason, isObject, type Reason } from './json.js';
import { MAX_ANNOUNCED_PORTS, MAX_CONTROL_BYTES, MAX_PROGRAM_LENGTH, SERVICE_NAME } from './limits.js';

/** The content of OPEN. */
export interface OpenRequest {
  readonly service: string;
  /** The origin of the local socket, for logs; claimed by the peer, so not to be trusted. */
  readonly from: string | null;
  /** Whether the bytes of the stream are messages (R-DGRAM-1). Default false. */
  readonly isDatagram?: boolean;
}

export interface Goaway extends Reason {
  /** The highest stream id of the receiver that will still be served. */
  readonly last: number;
}

const encodeJson = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

export function encodeOpen({ service, from, isDatagram = false }: OpenRequest): Buffer {
  const origin = from === null ? {} : { from: from.slice(0, 256) };
  return encodeJson({ service, ...origin, ...(isDatagram ? { datagram: true } : {}) });
}

/** The service is any text here: an invalid name is refused per stream and does not end the session. */
export function decodeOpen(payload: Uint8Array): OpenRequest {
  const { service, from, datagram } = decodeObject(payload, 'OPEN');
  if (typeof service !== 'string') throw protocolError('OPEN: "service" is missing or not a string');
  if (from !== undefined && from !== null && typeof from !== 'string') {
    throw protocolError('OPEN: "from" is not a string');
  }
  if (datagram !== undefined && datagram !== null && typeof datagram !== 'boolean') {
    throw protocolError('OPEN: "datagram" is not a boolean');
  }
  return { service, from: from ?? null, isDatagram: datagram ?? false };
}

export function encodeReason({ code, message }: Reason): Buffer {
  return encodeJson({ code, message: boundedMessage(message) });
}

/** The reason in a REFUSE, STOP or RESET; the message is escaped and cut for display. */
export function decodeReasonPayload(payload: Uint8Array, what: string): Reason {
  return decodeReason(decodeObject(payload, what), what);
}

export function encodeGoaway({ code, message, last }: Goaway): Buffer {
  return encodeJson({ code, message: boundedMessage(message), last });
}

export function decodeGoaway(payload: Uint8Array): Goaway {
  const object = decodeObject(payload, 'GOAWAY');
  const { last } = object;
  if (!isUnsigned32(last)) throw protocolError('GOAWAY: "last" is not a stream id');
  return { ...decodeReason(object, 'GOAWAY'), last };
}

/** A port that a program on the sender's machine listens on (R-SERVICES-3). */
export interface AnnouncedPort {
  /** 1 to 65,535. */
  readonly port: number;
  /** The program's name, at most 32 characters; null if unknown. Escaped for display when received. */
  readonly program: string | null;
}

/**
 * One list of services as the payloads of one or more SERVICES frames. The last carries the time of day and the announced ports
 * (at most 64), if given (R-SERVICES-1, R-SERVICES-3).
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
    // A name is ASCII of at most 64 characters; the margin covers quotes, commas and the frame's other fields.
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

/** Keeps only characters that JSON does not escape, so that a name has as many bytes as characters. */
function encodePort({ port, program }: AnnouncedPort): object {
  const plain = program?.slice(0, MAX_PROGRAM_LENGTH).replace(/[^ -~]|["\\]/g, '?') ?? '';
  return plain === '' ? { port } : { port, program: plain };
}

/** The content of SERVICES. */
export interface ServiceList {
  readonly services: string[];
  readonly more: boolean;
  /** The sender's time of day in milliseconds since 1970, or null. */
  readonly timeMs: number | null;
  /** The announced ports, the first of each number; null if the sender announces none at all. */
  readonly ports: AnnouncedPort[] | null;
}

export function decodeServices(payload: Uint8Array): ServiceList {
  const { services, more = false, time = null, ports = null } = decodeObject(payload, 'SERVICES');
  const isName = (name: unknown): name is string => typeof name === 'string' && SERVICE_NAME.test(name);
  if (!Array.isArray(services) || !services.every(isName)) {
    throw protocolError('SERVICES: "services" is not a list of service names');
  }
  if (typeof more !== 'boolean') throw protocolError('SERVICES: "more" is not a boolean');
  if (time !== null && !(Number.isSafeInteger(time) && (time as number) >= 0)) {
    throw protocolError('SERVICES: "time" is not a time in milliseconds');
  }
  return { services, more, timeMs: time as number | null, ports: ports === null ? null : decodePorts(ports) };
}

function decodePorts(value: unknown): AnnouncedPort[] {
  const fail = (): never => {
    throw protocolError(`SERVICES: "ports" is not a list of at most ${MAX_ANNOUNCED_PORTS} ports`);
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

/** Checks a payload of fixed size: ACCEPT and FIN are empty, PING and PONG have 8 bytes. Throws `protocol-error`. */
export function requireLength(type: ControlType, payload: Buffer, bytes: number): Buffer {
  if (payload.length === bytes) return payload;
  throw protocolError(`${formatFrameType(type)} of ${payload.length} bytes instead of ${bytes}`);
}

/** Writes a total of bytes (u64) at `offset`. Totals above 2^53−1 cannot occur: 2^53 bytes are nine petabytes. */
export function writeTotal(buffer: Buffer, offset: number, totalBytes: number): void {
  buffer.writeUInt32BE(Math.floor(totalBytes / 2 ** 32), offset);
  buffer.writeUInt32BE(totalBytes % 2 ** 32, offset + 4);
}

/** A total of bytes (u64) at the start of `payload`; a value above 2^53−1 counts as 2^53−1. */
export function readTotal(payload: Buffer): number {
  const total = payload.readUInt32BE(0) * 2 ** 32 + payload.readUInt32BE(4);
  return Math.min(total, Number.MAX_SAFE_INTEGER);
}

/** The payload of a CREDIT or an ACK is one such total. */
export const TOTAL_BYTES = 8;

/** The total in a CREDIT or an ACK, in bytes. Throws `protocol-error`. */
export const decodeTotal = (type: ControlType, payload: Buffer): number =>
  readTotal(requireLength(type, payload, TOTAL_BYTES));

function isUnsigned32(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 0xffff_ffff;
}
