/** One stream to a peer's service `sftp`: requests, several at a time, and their answers. */
import type { Duplex } from 'node:stream';
import { protocolError, toVproxyError, VproxyError } from '../../errors.js';
import { systemClock } from '../../util/clock.js';
import { type Deferred, deferred } from '../../util/concurrency.js';
import { escapeText } from '../../util/escape.js';
import { SFTP_KIND, SFTP_STATUS, SFTP_VERSION } from './sftp-numbers.js';
import { encodePacket, malformed, type SftpFields, SftpReader, type SftpValue } from './sftp-packets.js';

/** What went wrong with a file of the peer. */
export class FileError extends Error {
  /** `FileError`. */
  override readonly name = 'FileError';
  /**
   * The name that the peer's system has for the error, such as `ENOENT`, `EEXIST`, and `EACCES`, also for what is outside of the
   * shared folder; `EIO` if the peer does not tell.
   */
  readonly code: string;
  /** Of what failed. */
  readonly path: string;

  /** `wirePath` is a latin1 string of the bytes of the path. */
  constructor(code: string, message: string, wirePath: string) {
    const path = Buffer.from(wirePath, 'latin1').toString();
    super(`${escapeText(path)}: ${message}`);
    this.code = code;
    this.path = path;
  }
}

/** Names of errors for codes of STATUS whose message has none. */
const STATUS_ERRORS: ReadonlyMap<number, string> = new Map([
  [SFTP_STATUS.NO_SUCH_FILE, 'ENOENT'],
  [SFTP_STATUS.PERMISSION_DENIED, 'EACCES'],
  [SFTP_STATUS.OP_UNSUPPORTED, 'ENOSYS'],
]);

/** How long the peer has to end a stream after this side did, in milliseconds. */
const END_MS = 5000;
/** The same, if it has something to clean up: that may be behind much data. */
const CLEANUP_MS = 60_000;

/** An answer; null in place of EOF. */
export type SftpAnswer = SftpFields | null;

/** Owns the stream. Ends with `end`, or with the failure of the stream, which rejects all that is asked. */
export class SftpClient {
  /** Called once, when all that is asked will fail. */
  onFailure: (error: VproxyError) => void = () => undefined;
  readonly #stream: Duplex;
  readonly #waiting = new Map<number, { readonly kind: number; readonly path: string; answer: Deferred<SftpAnswer> }>();
  #count = 0;
  /** Answers to come that nobody waits for. */
  #lateCount = 0;
  #endMs = END_MS;
  #failure: VproxyError | null = null;

  constructor(stream: Duplex) {
    this.#stream = stream.on('error', () => undefined);
    stream.write(encodePacket(SFTP_KIND.INIT, SFTP_VERSION));
    void this.#read(new SftpReader(stream)).catch((error: unknown) => {
      this.fail(toVproxyError(error));
      stream.destroy();
    });
  }

  /**
   * Sends a request about `path`; resolves with the answer, which has the given kind, or is EOF. Rejects with a {@link FileError},
   * or with the failure of the stream.
   */
  ask(path: string, wanted: number, kind: number | string, ...values: readonly SftpValue[]): Promise<SftpAnswer> {
    const answer = deferred<SftpAnswer>();
    // One of several may fail, after which nobody waits for the others.
    answer.promise.catch(() => undefined);
    if (this.#failure !== null) answer.reject(this.#failure);
    else {
      this.#count = (this.#count + 1) >>> 0;
      this.#waiting.set(this.#count, { kind: wanted, path, answer });
      const head = typeof kind === 'number' ? [this.#count] : [this.#count, kind];
      this.#stream.write(encodePacket(typeof kind === 'number' ? kind : SFTP_KIND.EXTENDED, ...head, ...values));
    }
    return answer.promise;
  }

  /** Sends a request that cleans up after a failure; nobody waits for its answer. */
  tell(kind: number, ...values: readonly SftpValue[]): void {
    this.#endMs = CLEANUP_MS;
    this.#lateCount += 1;
    this.#count = (this.#count + 1) >>> 0;
    this.#stream.write(encodePacket(kind, this.#count, ...values));
  }

  /** Why nothing more is answered; null: it is. */
  get failure(): Error | null {
    return this.#failure;
  }

  /** Rejects all that is asked, now and later. */
  fail(error: VproxyError): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    this.onFailure(error);
    this.#lateCount = this.#waiting.size;
    for (const { answer } of this.#waiting.values()) answer.reject(error);
    this.#waiting.clear();
  }

  /** Ends the stream, at once if nobody waits for what was asked; what was told, the peer still does, for a while. */
  end(): void {
    this.fail(new VproxyError('cancelled', 'the call has ended'));
    if (this.#lateCount > 0 && this.#endMs === END_MS) this.#stream.destroy();
    const stream = this.#stream.end();
    const cancel = systemClock.schedule(this.#endMs, () => stream.destroy());
    if (stream.destroyed) cancel();
    else stream.once('close', cancel);
  }

  async #read(reader: SftpReader): Promise<never> {
    for (let isFirst = true; ; isFirst = false) {
      const fields = await reader.next();
      if (fields === null) throw this.#stream.errored ?? protocolError('sftp: the peer ended the stream');
      const kind = fields.byte();
      if (isFirst) {
        if (kind !== SFTP_KIND.VERSION || fields.number() < SFTP_VERSION) throw malformed(`kind ${kind} for VERSION`);
      } else this.#handle(kind, fields);
    }
  }

  #handle(kind: number, fields: SftpFields): void {
    const id = fields.number();
    const request = this.#waiting.get(id);
    if (request === undefined) {
      this.#lateCount -= 1;
      if (this.#lateCount >= 0) return;
      throw malformed('an answer without a request');
    }
    const { path, answer } = request;
    if (kind !== SFTP_KIND.STATUS) {
      if (kind !== request.kind) throw malformed(`kind ${kind} for ${request.kind}`);
      answer.resolve(fields);
    } else {
      const [status, said] = [fields.number(), Buffer.from(fields.text(), 'latin1').toString()];
      const isFine = status === SFTP_STATUS.OK && request.kind === SFTP_KIND.STATUS;
      if (status === SFTP_STATUS.OK && !isFine) throw malformed(`kind ${kind} for ${request.kind}`);
      if (isFine || status === SFTP_STATUS.EOF) answer.resolve(isFine ? fields : null);
      else {
        const [, name = STATUS_ERRORS.get(status) ?? 'EIO'] = /\((E[A-Z0-9]{1,15})\)$/.exec(said) ?? [];
        answer.reject(new FileError(name, escapeText(said, 200), path));
      }
    }
    this.#waiting.delete(id);
  }
}
