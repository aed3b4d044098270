/** A client of the service `sftp`, by packets: of vproxy in this process, or of the program at the far side of copies. */
import type { Duplex } from 'node:stream';
import type { ExecutionContext } from 'ava';
import type { LogEvent } from '../../lib/events.js';
import { SFTP_EXTENSIONS, SFTP_KIND, SFTP_STATUS } from '../../lib/services/sftp/sftp-numbers.js';
import { SftpService } from '../../lib/services/sftp/sftp-service.js';
import { systemClock } from '../../lib/util/clock.js';
import { type Deferred, deferred } from '../../lib/util/concurrency.js';
import { resettingPair } from './channel-pair.js';
import { farSide } from './copy-pair.js';
import { within } from './time.js';

/** A number of 32 bits, one of 64, or a text or bytes with their length before them; characters are bytes. */
export type Field = number | bigint | string | Buffer;

export const number32 = (number: number): Buffer =>
  Buffer.from([24, 16, 8, 0].map((shift) => (number >>> shift) & 255));

/** A packet around any bytes. */
export const rawPacket = (kind: number, body: Buffer): Buffer =>
  Buffer.concat([number32(body.length + 1), Buffer.of(kind), body]);

export function packet(kind: number, ...fields: readonly Field[]): Buffer {
  const parts = fields.flatMap((field) => {
    if (typeof field === 'number') return [number32(field)];
    if (typeof field === 'bigint') return [number32(Number(field >> 32n)), number32(Number(field & 0xffffffffn))];
    return [number32(field.length), typeof field === 'string' ? Buffer.from(field, 'latin1') : field];
  });
  return rawPacket(kind, Buffer.concat(parts));
}

/** Attributes to set: none, permissions, or a size. */
export const NO_ATTRIBUTES = [0] as const;

/** An answer, and its fields as they are taken. */
export class Answer {
  readonly kind: number;
  readonly bytes: Buffer;
  #at = 0;

  constructor(kind: number, bytes: Buffer) {
    this.kind = kind;
    this.bytes = bytes;
  }

  number(): number {
    this.#at += 4;
    return this.bytes.readUInt32BE(this.#at - 4);
  }

  long(): bigint {
    this.#at += 8;
    return this.bytes.readBigUInt64BE(this.#at - 8);
  }

  text(): string {
    const length = this.number();
    this.#at += length;
    return this.bytes.toString('latin1', this.#at - length, this.#at);
  }

  attributes() {
    const flags = this.number();
    if (flags !== 15) throw new Error(`flags ${flags}`);
    const [size, uid, gid, mode] = [Number(this.long()), this.number(), this.number(), this.number()];
    return { size, uid, gid, mode, accessed: this.number(), modified: this.number() };
  }

  /** The name of a status, or the kind of another answer. */
  get status(): string {
    const numbers: Readonly<Record<string, number>> = this.kind === SFTP_KIND.STATUS ? SFTP_STATUS : SFTP_KIND;
    const number = this.kind === SFTP_KIND.STATUS ? this.bytes.readUInt32BE() : this.kind;
    return Object.entries(numbers).find(([, each]) => each === number)?.[0] ?? String(number);
  }
}

export class SftpClient {
  readonly stream: Duplex;
  /** Resolves with the code that the stream ended with; null: cleanly. */
  readonly ended: Promise<string | null>;
  /** The ids of the answers, as they came. */
  readonly answered: number[] = [];
  #nextId = 1;
  #received: Buffer = Buffer.alloc(0);
  readonly #waiting = new Map<number, Deferred<Answer>>();

  constructor(stream: Duplex) {
    this.stream = stream;
    const ended = deferred<string | null>();
    this.ended = ended.promise;
    stream.on('data', (chunk: Buffer) => this.#read(chunk));
    stream.on('error', (error: Error & { code?: string }) => ended.resolve(error.code ?? error.message));
    stream
      .on('end', () => stream.end())
      .on('close', () => {
        ended.resolve(null);
        for (const waiting of this.#waiting.values()) waiting.reject(new Error('the stream has ended'));
      });
  }

  /** Writes INIT, and reads the version with its extensions. */
  async init(): Promise<void> {
    const answer = this.#await(3);
    this.stream.write(packet(SFTP_KIND.INIT, 3));
    const { bytes } = await answer;
    const found = Object.entries(SFTP_EXTENSIONS).filter(([name]) => bytes.includes(name));
    if (found.length !== Object.keys(SFTP_EXTENSIONS).length) throw new Error('extensions are missing');
  }

  ask(kind: number, ...fields: readonly Field[]): Promise<Answer> {
    const id = this.#nextId + 1000;
    this.#nextId += 1;
    const answer = this.#await(id);
    this.stream.write(packet(kind, id, ...fields));
    return within(60_000, 'an answer', answer);
  }

  extended(name: string, ...fields: readonly Field[]): Promise<Answer> {
    return this.ask(SFTP_KIND.EXTENDED, name, ...fields);
  }

  /** Opens a file, and returns its handle. By default it is read. */
  async open(path: string, flags = 1, attributes: readonly Field[] = NO_ATTRIBUTES): Promise<string> {
    return handleOf(await this.ask(SFTP_KIND.OPEN, path, flags, ...attributes));
  }

  /** All names in a folder, and how many answers they took. */
  async list(path: string) {
    const handle = handleOf(await this.ask(SFTP_KIND.OPENDIR, path));
    const names: string[] = [];
    const lines: string[] = [];
    for (let answers = 0; ; answers += 1) {
      const answer = await this.ask(SFTP_KIND.READDIR, handle);
      if (answer.status === 'EOF') {
        await this.ask(SFTP_KIND.CLOSE, handle);
        return { names, lines, answers };
      }
      for (let left = answer.number(); left > 0; left -= 1) {
        names.push(answer.text());
        lines.push(answer.text());
        answer.attributes();
      }
    }
  }

  #await(id: number): Promise<Answer> {
    const waiting = deferred<Answer>();
    this.#waiting.set(id, waiting);
    return waiting.promise;
  }

  #read(chunk: Buffer): void {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
    let at = 0;
    for (; this.#received.length >= at + 4; ) {
      const end = at + 4 + this.#received.readUInt32BE(at);
      if (this.#received.length < end) break;
      const id = this.#received.readUInt32BE(at + 5);
      const bytes = this.#received.subarray(at + 9, end);
      this.answered.push(id);
      this.#waiting.get(id)?.resolve(new Answer(this.#received[at + 4] ?? 0, bytes));
      this.#waiting.delete(id);
      at = end;
    }
    this.#received = this.#received.subarray(at);
  }
}

export function handleOf(answer: Answer): string {
  if (answer.kind !== SFTP_KIND.HANDLE) throw new Error(`${answer.status} instead of a handle`);
  return answer.text();
}

/** A program with the service, confined to a folder unless it is null. */
export async function startSftp(t: ExecutionContext, root: string | null) {
  const far = (await farSide.start?.(t, root)) ?? null;
  const events: LogEvent[] = [];
  const service = new SftpService({ root, clock: systemClock, log: (event) => events.push(event) });
  t.teardown(() => service.stop());
  const open = (): Promise<Duplex> => {
    if (far !== null) return far('sftp');
    const [caller, served] = resettingPair();
    service.serve(served);
    return Promise.resolve(caller);
  };
  /** A stream; `isReady`: after INIT. */
  const connect = async (isReady = true): Promise<SftpClient> => {
    const client = new SftpClient(await open());
    if (isReady) await client.init();
    return client;
  };
  return { open, connect, events, service };
}
