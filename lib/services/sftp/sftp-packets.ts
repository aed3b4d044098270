/** SFTP packets: reads them and their fields, and encodes answers. A path is a latin1 string, with one character for each byte. */
import type { Readable } from 'node:stream';
import { protocolError, type VproxyError } from '../../errors.js';
import { Change } from '../../util/concurrency.js';
import { MAX_EXTENDED, MAX_PACKET_BYTES, SFTP_KIND, SPARE_BYTES } from './sftp-numbers.js';

export const malformed = (why: string): VproxyError => protocolError(`sftp: malformed packet: ${why}`);

/** What a client sets; fields without a flag are absent. */
export interface SetAttributes {
  size?: bigint;
  owner?: readonly [user: number, group: number];
  mode?: number;
  /** In seconds. */
  times?: readonly [accessed: number, modified: number];
}

export const ATTRIBUTE = { SIZE: 1, OWNER: 2, MODE: 4, TIMES: 8, EXTENDED: 2 ** 31 } as const;

/** The rest of a packet. All methods throw `protocol-error` for a field that is not there. */
export class SftpFields {
  readonly #packet: Buffer;
  #at = 0;

  constructor(packet: Buffer) {
    this.#packet = packet;
  }

  byte(): number {
    return this.#take(1).readUInt8();
  }

  number(): number {
    return this.#take(4).readUInt32BE();
  }

  long(): bigint {
    return this.#take(8).readBigUInt64BE();
  }

  /** Bytes with their length before them, not copied. */
  data(): Buffer {
    return this.#take(this.number());
  }

  text(): string {
    return this.data().toString('latin1');
  }

  /** A text without NUL. */
  path(): string {
    const path = this.text();
    if (path.includes('\0')) throw malformed('a path with NUL');
    return path;
  }

  attributes(): SetAttributes {
    const flags = this.number();
    const set: SetAttributes = {};
    if ((flags & ATTRIBUTE.SIZE) !== 0) set.size = this.long();
    if ((flags & ATTRIBUTE.OWNER) !== 0) set.owner = [this.number(), this.number()];
    if ((flags & ATTRIBUTE.MODE) !== 0) set.mode = this.number();
    if ((flags & ATTRIBUTE.TIMES) !== 0) set.times = [this.number(), this.number()];
    const extendedCount = (flags & ATTRIBUTE.EXTENDED) === 0 ? 0 : this.number();
    if (extendedCount > MAX_EXTENDED) throw malformed(`${extendedCount} extended attributes`);
    for (let left = 2 * extendedCount; left > 0; left -= 1) this.text();
    return set;
  }

  #take(byteCount: number): Buffer {
    const taken = this.#packet.subarray(this.#at, this.#at + byteCount);
    if (taken.length < byteCount) throw malformed('it ends within a field');
    this.#at += byteCount;
    return taken;
  }
}

/** Reads the packets of a stream, one at a time. */
export class SftpReader {
  readonly #stream: Readable;
  readonly #change = new Change();

  constructor(stream: Readable) {
    this.#stream = stream;
    for (const event of ['readable', 'end', 'close']) stream.on(event, () => this.#change.announce());
  }

  /** The next packet; null at the end of the stream. Rejects with `protocol-error` for one that is too long, empty or cut off. */
  async next(): Promise<SftpFields | null> {
    const header = await this.#read(4);
    if (header === null) return null;
    const length = header.readUInt32BE();
    if (length === 0 || length > MAX_PACKET_BYTES + SPARE_BYTES) throw malformed(`${length} bytes`);
    const packet = await this.#read(length);
    if (packet === null && !this.#stream.destroyed) throw malformed('cut off');
    return packet === null ? null : new SftpFields(packet);
  }

  /** Reads exactly `byteCount` bytes; null at the end of the stream. */
  async #read(byteCount: number): Promise<Buffer | null> {
    for (;;) {
      const bytes = this.#stream.read(byteCount) as Buffer | null;
      if (bytes !== null && bytes.length < byteCount) throw malformed('cut off');
      if (bytes !== null || this.#stream.readableEnded || this.#stream.destroyed) return bytes;
      await this.#change.next();
    }
  }
}

/** A field of an answer: a number of 32 bits, one of 64, or a text or bytes with their length. */
export type SftpValue = number | bigint | string | Buffer;

/** What precedes the data in an answer to READ: large data is not copied into a packet. */
export function encodeDataHead(id: number, data: Buffer): Buffer {
  const head = encodePacket(SFTP_KIND.DATA, id, data.length);
  head.writeUInt32BE(head.length - 4 + data.length);
  return head;
}

export function encodePacket(kind: number, ...values: readonly SftpValue[]): Buffer {
  const bytes = (value: SftpValue): number =>
    typeof value === 'number' ? 4 : typeof value === 'bigint' ? 8 : 4 + value.length;
  const packet = Buffer.allocUnsafeSlow(values.reduce((sum: number, value) => sum + bytes(value), 5));
  packet.writeUInt32BE(packet.length - 4);
  let at = packet.writeUInt8(kind, 4);
  for (const value of values) {
    if (typeof value === 'bigint') at = packet.writeBigUInt64BE(value, at);
    else at = packet.writeUInt32BE(typeof value === 'number' ? value : value.length, at);
    if (typeof value === 'string') at += packet.write(value, at, 'latin1');
    else if (typeof value === 'object') at += value.copy(packet, at);
  }
  return packet;
}
