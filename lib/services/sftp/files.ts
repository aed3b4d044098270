/** The files of a peer for programs, over its service `sftp`. Each call has a stream of its own. */
import { randomBytes } from 'node:crypto';
import { type Duplex, Readable } from 'node:stream';
import { badArgument, VproxyError } from '../../errors.js';
import { copyAlone } from '../../util/bytes/byte-queue.js';
import { deferred, onAbort, Turns } from '../../util/concurrency.js';
import { escapeText } from '../../util/escape.js';
import { MAX_PATH_BYTES } from '../copy/tar/names.js';
import { FileError, type SftpAnswer, SftpClient } from './sftp-client.js';
import { MAX_DATA_BYTES, SFTP_KIND } from './sftp-numbers.js';
import { ATTRIBUTE, malformed, type SetAttributes, type SftpFields, type SftpValue } from './sftp-packets.js';

/** A path of the peer: absolute, or from where its service starts. Bytes, for names that are not UTF-8. */
export type FilePath = string | Uint8Array;

/** What a file is, by a look at it. */
export interface FileStatus {
  /** `other`: a device, a FIFO or a socket. */
  readonly kind: 'file' | 'folder' | 'link' | 'other';
  /** In bytes. */
  readonly size: number;
  /** The permissions, such as 0o644. */
  readonly mode: number;
  /** The number of its owner. */
  readonly uid: number;
  /** The number of its group. */
  readonly gid: number;
  /** In whole seconds. */
  readonly modifiedAt: Date;
}

/** An entry of a folder. */
export interface FileEntry extends FileStatus {
  /** Its name in the folder. */
  readonly name: string;
  /** The name as the peer has it, which may not be UTF-8. */
  readonly rawName: Buffer;
}

/** Options of every call. */
export interface FileRequest {
  /** Cancels the call, which rejects with `cancelled`. */
  readonly signal?: AbortSignal | undefined;
}

/** Options for reading. */
export interface ReadFileRequest extends FileRequest {
  /** The first byte. Default 0. */
  readonly offset?: number | undefined;
  /** How many bytes at most. Default: to the end. */
  readonly length?: number | undefined;
}

/** Options for what is created. */
export interface CreateRequest extends FileRequest {
  /** The permissions. Default: those of the file that is replaced, or what the peer's umask leaves. */
  readonly mode?: number | undefined;
}

/** Options for creating a folder. */
export interface CreateFolderRequest extends CreateRequest {
  /** Whether to create those above it, too; it may exist. Default false. */
  readonly recursive?: boolean | undefined;
}

/** Options for removing. */
export interface RemoveFileRequest extends FileRequest {
  /** Whether to remove a folder with all that is in it. Default false. */
  readonly recursive?: boolean | undefined;
  /** Whether there may be nothing. Default false. */
  readonly force?: boolean | undefined;
}

/** A file that is open. */
interface OpenFile {
  readonly status: FileStatus;
  /** Yields the bytes between two positions, or to the end. */
  pieces(from: number, end: number): AsyncGenerator<Buffer, void>;
  end(): void;
}

/** What is written. */
export type FileData = string | Uint8Array | Iterable<string | Uint8Array> | AsyncIterable<string | Uint8Array>;

/** READs or WRITEs that wait for an answer at a time: up to 2 MiB. */
const MAX_PIECES = 8;

/** Calls at a time; a peer has at most 64 streams, for all programs. */
const MAX_CALLS = 32;

/** The longest list: each entry takes about 400 bytes. */
const MAX_ENTRIES = 2_000_000;

/** The most memory of the folders that are still to be removed; each takes about 100 bytes and its path. */
const MAX_TREE_BYTES = 268_435_456;
const FOLDER_BYTES = 100;

/** The longest beginning of a name that the name of its part has, in bytes: names have at most 255. */
const PART_NAME_BYTES = 200;

/** Flags of OPEN. */
const FLAG = { READ: 1, WRITE: 2, APPEND: 4, CREATE: 8, NEW: 32 } as const;

const SLASH = 0x2f;

const POSIX_RENAME = 'posix-rename@openssh.com';

const { STATUS, HANDLE, DATA, NAME, ATTRS } = SFTP_KIND;

/**
 * The files of a peer that allows copies, by its own paths. `open` opens a stream to its service `sftp`, and rejects if that fails.
 *
 *     const vproxy = connectControl('/run/vproxy/host1.sock');
 *     const files = new Files(() => vproxy.connect('sftp', { channel: 'vm1' }));
 *     await files.write('/etc/motd', 'hello\n');
 *
 * Each call rejects with a {@link FileError} that has the system's name of the error, such as `ENOENT`, or with what `open` rejects
 * with, or with the failure of the stream.
 */
export class Files {
  readonly #open: () => Promise<Duplex>;
  /** Of calls that do not wait for the program, which may be waiting for another call. */
  readonly #turns = new Turns(MAX_CALLS);

  /** See {@link Files}. */
  constructor(open: () => Promise<Duplex>) {
    this.#open = open;
  }

  /** The bytes of a file. */
  async read(path: FilePath, request: ReadFileRequest = {}): Promise<Buffer> {
    return this.#turns.run(request.signal ?? null, async () => {
      const pieces: Buffer[] = [];
      for await (const piece of this.pieces(path, request)) pieces.push(piece);
      return Buffer.concat(pieces);
    });
  }

  /** Yields the bytes of a file in pieces of up to 255 KiB, as they are wanted. */
  async *pieces(path: FilePath, request: ReadFileRequest = {}): AsyncGenerator<Buffer, void> {
    const { offset = 0, length = Number.MAX_SAFE_INTEGER, signal } = request;
    requireInteger('offset', offset, Number.MAX_SAFE_INTEGER);
    requireInteger('length', length, Number.MAX_SAFE_INTEGER);
    const call = await this.#begin(path, signal);
    try {
      yield* call.pieces(offset, Math.min(offset + length, Number.MAX_SAFE_INTEGER));
    } finally {
      call.end();
    }
  }

  /**
   * Opens a file, whatever has its name afterwards. Call `end`.
   *
   * @internal
   */
  async open(path: FilePath, { signal }: FileRequest = {}): Promise<OpenFile> {
    const call = await this.#begin(path, signal);
    try {
      const handle = await call.open(call.path, FLAG.READ);
      const status = await call.stat(SFTP_KIND.FSTAT, handle);
      return { status, pieces: (from, end) => call.piecesOf(handle, from, end), end: () => call.end() };
    } catch (error) {
      call.end();
      throw error;
    }
  }

  /**
   * Replaces a file, or creates it. It appears at once with all its data: they are written to a part beside it, which is removed
   * if anything fails. A link is replaced, not followed; a device, a FIFO or a socket is neither.
   */
  async write(path: FilePath, data: FileData, { mode, signal }: CreateRequest = {}): Promise<void> {
    await this.#feed(path, signal, data, (call) => call.replace(data, mode));
  }

  /** Appends to a file, or creates it. */
  async append(path: FilePath, data: FileData, { mode, signal }: CreateRequest = {}): Promise<void> {
    await this.#feed(path, signal, data, (call) => call.append(data, mode));
  }

  /** The entries of a folder, by name. */
  async list(path: FilePath, { signal }: FileRequest = {}): Promise<FileEntry[]> {
    return this.#turns.run(signal ?? null, async () => {
      const entries: FileEntry[] = [];
      for await (const some of this.entries(path, { signal })) {
        entries.push(...some);
        if (entries.length > MAX_ENTRIES) throw malformed(`more than ${MAX_ENTRIES} entries`);
      }
      return entries.sort((one, other) => Buffer.compare(one.rawName, other.rawName));
    });
  }

  /**
   * Yields the entries of a folder as they come, in any order.
   *
   * @internal
   */
  async *entries(path: FilePath, { signal }: FileRequest = {}): AsyncGenerator<FileEntry[], void> {
    const call = await this.#begin(path, signal);
    try {
      yield* call.entries(call.path);
    } finally {
      call.end();
    }
  }

  /** What is at a path, or where a link leads. */
  async stat(path: FilePath, { signal }: FileRequest = {}): Promise<FileStatus> {
    return this.#with(path, signal, (call) => call.stat(SFTP_KIND.STAT));
  }

  /** What is at a path; of a link, the link itself. */
  async lstat(path: FilePath, { signal }: FileRequest = {}): Promise<FileStatus> {
    return this.#with(path, signal, (call) => call.stat(SFTP_KIND.LSTAT));
  }

  /** Whether there is something at a path, or where a link leads. */
  async exists(path: FilePath, request: FileRequest = {}): Promise<boolean> {
    try {
      await this.stat(path, request);
      return true;
    } catch (error) {
      if (isFileError(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return false;
      throw error;
    }
  }

  /** Creates a folder. */
  async mkdir(path: FilePath, { mode, recursive = false, signal }: CreateFolderRequest = {}): Promise<void> {
    await this.#with(path, signal, async (call) => {
      // The last one reports whether they are there.
      if (recursive) for (const folder of above(call.path)) call.do(SFTP_KIND.MKDIR, folder, 0).catch(ignore);
      await call.do(SFTP_KIND.MKDIR, call.path, ...modeFields(mode)).catch(async (error: unknown) => {
        if (!recursive || !(error instanceof FileError)) throw error;
        const found = await call.stat(SFTP_KIND.STAT).catch(ignore);
        if (found?.kind !== 'folder') throw error;
      });
    });
  }

  /** Removes a file, a link or an empty folder; follows no link. */
  async remove(path: FilePath, { recursive = false, force = false, signal }: RemoveFileRequest = {}): Promise<void> {
    // With a slash at its end, a link would be followed.
    const bytes = Buffer.from(path);
    let end = bytes.length;
    while (end > 1 && bytes[end - 1] === SLASH) end -= 1;
    // As rm(1) has it: after a link, that would be where it leads.
    if (/(?:^|\/)\.\.?$/.test(bytes.toString('latin1', 0, end))) throw badArgument(`not removed: ${String(path)}`);
    await this.#with(bytes.subarray(0, end), signal, async (call) => {
      const work = async (): Promise<void> => {
        const { kind } = await call.stat(SFTP_KIND.LSTAT);
        if (end < bytes.length && kind !== 'folder' && kind !== 'link')
          throw new FileError('ENOTDIR', 'not a directory (ENOTDIR)', call.path);
        if (kind === 'folder' && recursive) await call.removeTree();
        else await call.do(kind === 'folder' ? SFTP_KIND.RMDIR : SFTP_KIND.REMOVE, call.path);
      };
      await (force ? unlessGone(work()) : work());
    });
  }

  /** Renames; replaces a file at the new path. */
  async rename(path: FilePath, newPath: FilePath, { signal }: FileRequest = {}): Promise<void> {
    await this.#with(path, signal, (call) => call.do(POSIX_RENAME, call.path, wirePath(newPath)));
  }

  /** Sets the permissions, such as 0o600. */
  async chmod(path: FilePath, mode: number, { signal }: FileRequest = {}): Promise<void> {
    await this.#with(path, signal, (call) => call.do(SFTP_KIND.SETSTAT, call.path, ...modeFields(mode)));
  }

  /** A stream is destroyed if the call fails. */
  async #feed(
    path: FilePath,
    signal: AbortSignal | undefined,
    data: FileData,
    work: (call: FileCall) => Promise<void>,
  ): Promise<void> {
    const source = data instanceof Readable ? data : null;
    // It may fail before it is read: the reader sees that.
    source?.on('error', ignore);
    try {
      await this.#with(path, signal, work, isWhole(data));
    } catch (error) {
      source?.destroy();
      throw error;
    }
  }

  async #with<T>(
    path: FilePath,
    signal: AbortSignal | undefined,
    work: (call: FileCall) => Promise<T>,
    takesTurn = true,
  ): Promise<T> {
    const run = async (): Promise<T> => {
      const call = await this.#begin(path, signal);
      try {
        return await work(call);
      } finally {
        call.end();
      }
    };
    return takesTurn ? this.#turns.run(signal ?? null, run) : run();
  }

  async #begin(path: FilePath, signal: AbortSignal | undefined): Promise<FileCall> {
    const wire = wirePath(path);
    if (signal?.aborted === true) throw cancelled();
    const gone = deferred<never>();
    gone.promise.catch(ignore);
    const forget = onAbort(signal, () => gone.reject(cancelled()));
    const opening = (async () => this.#open())();
    try {
      return new FileCall(await Promise.race([opening, gone.promise]), wire, signal);
    } catch (error) {
      opening.then((stream) => stream.destroy(), ignore);
      throw error;
    } finally {
      forget();
    }
  }
}

const cancelled = (): VproxyError => new VproxyError('cancelled', 'the caller has cancelled it');

const ignore = (): void => undefined;

/** Resolves with undefined if what was asked is not there. */
const unlessGone = <T>(asked: Promise<T>): Promise<T | undefined> =>
  asked.catch((error: unknown) => {
    if (!isFileError(error, 'ENOENT')) throw error;
    return undefined;
  });

const isFileError = (error: unknown, ...codes: readonly string[]): boolean =>
  error instanceof FileError && codes.includes(error.code);

/** The bytes of a path as a latin1 string. Throws `bad-argument` for what no system takes, and a {@link FileError} if it is long. */
function wirePath(path: FilePath): string {
  const wire = Buffer.from(path).toString('latin1');
  if (wire === '' || wire.includes('\0')) throw badArgument(`not a path: "${escapeText(String(path), 80)}"`);
  return notLong(wire);
}

function notLong(wire: string): string {
  if (wire.length > MAX_PATH_BYTES) throw new FileError('ENAMETOOLONG', `longer than ${MAX_PATH_BYTES} bytes`, wire);
  return wire;
}

/** The folders above a path, from the top. */
const above = (path: string): string[] =>
  [...path.matchAll(/[^/](?=\/+[^/])/g)].map(({ index }) => path.slice(0, index + 1));

function requireInteger(name: string, value: number, max: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max)
    throw badArgument(`${name}: ${value} is not from 0 to ${max}`);
}

/** The attributes of what is created. */
function modeFields(mode: number | undefined): number[] {
  if (mode === undefined) return [0];
  requireInteger('mode', mode, 0o7777);
  return [ATTRIBUTE.MODE, mode];
}

const KINDS = new Map<number, FileStatus['kind']>([
  [0o04, 'folder'],
  [0o10, 'file'],
  [0o12, 'link'],
]);

function statusOf({
  size = 0n,
  mode = 0,
  owner: [uid, gid] = [0, 0],
  times: [, modified] = [0, 0],
}: SetAttributes): FileStatus {
  const kind = KINDS.get(mode >>> 12) ?? 'other';
  return { kind, size: Number(size), mode: mode & 0o7777, uid, gid, modifiedAt: new Date(modified * 1000) };
}

const isWhole = (data: FileData): data is string | Uint8Array => typeof data === 'string' || data instanceof Uint8Array;

/** Pieces of data, as they are. */
async function* piecesOf(data: FileData): AsyncGenerator<Buffer, void> {
  for await (const piece of isWhole(data) ? [data] : data) {
    const bytes =
      typeof piece === 'string' ? Buffer.from(piece) : Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    for (let at = 0; at < bytes.length; at += MAX_DATA_BYTES) yield bytes.subarray(at, at + MAX_DATA_BYTES);
  }
}

/** A call about a path. */
class FileCall {
  readonly path: string;
  readonly #client: SftpClient;
  readonly #forget: () => void;

  constructor(stream: Duplex, path: string, signal: AbortSignal | undefined) {
    this.path = path;
    this.#client = new SftpClient(stream);
    this.#forget = onAbort(signal, () => this.#client.fail(cancelled()));
  }

  end(): void {
    this.#forget();
    this.#client.end();
  }

  /** Asks for what is answered with a status. */
  async do(kind: number | string, ...values: readonly SftpValue[]): Promise<void> {
    await this.#ask(STATUS, kind, ...values);
  }

  async open(path: string, flags: number, mode?: number): Promise<Buffer> {
    return (await this.#ask(HANDLE, SFTP_KIND.OPEN, path, flags, ...modeFields(mode))).data();
  }

  async stat(kind: number, what: SftpValue = this.path): Promise<FileStatus> {
    return statusOf((await this.#ask(ATTRS, kind, what)).attributes());
  }

  async *pieces(from: number, end: number): AsyncGenerator<Buffer, void> {
    yield* this.piecesOf(await this.open(this.path, FLAG.READ), from, end);
  }

  async *piecesOf(handle: Buffer, from: number, end: number): AsyncGenerator<Buffer, void> {
    const asked: { at: number; size: number; answer: Promise<SftpAnswer> }[] = [];
    const ask = (at: number, size: number) => {
      asked.push({ at, size, answer: this.#client.ask(this.path, DATA, SFTP_KIND.READ, handle, BigInt(at), size) });
    };
    // Most files are short: more is asked for with each piece that comes.
    for (let [next, most] = [from, 1]; ; ) {
      for (; asked.length < most && next < end; next += MAX_DATA_BYTES) ask(next, Math.min(MAX_DATA_BYTES, end - next));
      const first = asked.shift();
      const piece = (await first?.answer)?.data();
      if (first === undefined || piece === undefined) return;
      const missing = first.size - piece.length;
      if (piece.length === 0 || missing < 0) throw malformed(`${piece.length} bytes for ${first.size}`);
      yield piece;
      most = missing === 0 ? Math.min(2 * most, MAX_PIECES) : 1;
      if (missing === 0) continue;
      // The end, or a file that gives less than was asked for. What follows was asked for already.
      ask(first.at + piece.length, missing);
      asked.unshift(...asked.splice(-1));
    }
  }

  async replace(data: FileData, mode: number | undefined): Promise<void> {
    const slash = this.path.lastIndexOf('/') + 1;
    const name = this.path.slice(slash, slash + PART_NAME_BYTES);
    const part = `${this.path.slice(0, slash)}.${name}.vproxy-${randomBytes(6).toString('hex')}`;
    let handle: Buffer | null = null;
    try {
      // Before the part is there: nobody may open it who may not read the file.
      const before = await this.#modeBefore();
      const bits = mode ?? before;
      handle = await this.open(part, FLAG.WRITE | FLAG.CREATE | FLAG.NEW, bits);
      if (bits !== undefined) await this.do(SFTP_KIND.FSETSTAT, handle, ...modeFields(bits));
      await this.#writeAll(handle, data);
      await this.do(SFTP_KIND.CLOSE, handle);
      await this.do(POSIX_RENAME, part, this.path);
    } catch (error) {
      // A cancelled OPEN may create it.
      const isThere = handle !== null || !(error instanceof FileError);
      if (isThere) await this.do(SFTP_KIND.REMOVE, part).catch(() => this.#client.tell(SFTP_KIND.REMOVE, part));
      throw error;
    }
  }

  /** The permissions of the file that it replaces; a device must stay one. What it cannot find out, the renaming reports. */
  async #modeBefore(): Promise<number | undefined> {
    const found = await this.stat(SFTP_KIND.LSTAT).catch((error: unknown) => {
      if (!(error instanceof FileError)) throw error;
    });
    if (found?.kind === 'folder') throw new FileError('EISDIR', 'is a directory (EISDIR)', this.path);
    if (found?.kind === 'other') throw new FileError('EINVAL', 'not a file (EINVAL)', this.path);
    return found?.kind === 'file' ? found.mode : undefined;
  }

  async append(data: FileData, mode: number | undefined): Promise<void> {
    const handle = await this.open(this.path, FLAG.WRITE | FLAG.APPEND | FLAG.CREATE, mode);
    await this.#writeAll(handle, data);
    await this.do(SFTP_KIND.CLOSE, handle);
  }

  async #writeAll(handle: Buffer, data: FileData): Promise<void> {
    const written: Promise<void>[] = [];
    let at = 0n;
    const pieces = piecesOf(data);
    /** The next piece, unless the call fails before its source has one. */
    const next = () =>
      new Promise<IteratorResult<Buffer, void>>((resolve, reject) => {
        this.#client.onFailure = (error) => {
          reject(error);
          if (data instanceof Readable) data.destroy(error);
        };
        if (this.#client.failure !== null) reject(this.#client.failure);
        pieces.next().then(resolve, reject);
      });
    try {
      for (let piece = await next(); piece.done !== true; piece = await next()) {
        if (written.length >= MAX_PIECES) await written.shift();
        const done = this.do(SFTP_KIND.WRITE, handle, at, piece.value);
        done.catch(ignore);
        written.push(done);
        at += BigInt(piece.value.length);
      }
      await Promise.all(written);
    } finally {
      this.#client.onFailure = ignore;
      // Not awaited: its source may never go on.
      pieces.return().catch(ignore);
    }
  }

  /** The entries of a folder, as they come. */
  async *entries(path: string): AsyncGenerator<FileEntry[], void> {
    const handle = (await this.#ask(HANDLE, SFTP_KIND.OPENDIR, path)).data();
    for (;;) {
      const fields = await this.#client.ask(path, NAME, SFTP_KIND.READDIR, handle);
      if (fields === null) break;
      const entries: FileEntry[] = [];
      const count = fields.number();
      if (count === 0) throw malformed('no names');
      for (let left = count; left > 0; left -= 1) {
        const rawName = copyAlone(fields.data());
        fields.data();
        const status = statusOf(fields.attributes());
        const name = rawName.toString();
        if (rawName.length === 0 || /[/\0]/.test(name)) throw malformed('not a name');
        if (name !== '.' && name !== '..') entries.push({ name, rawName, ...status });
      }
      yield entries;
    }
    await this.do(SFTP_KIND.CLOSE, handle);
  }

  /** Removes the folder with all that is in it and not gone by then. Holds the paths of the folders that it has seen. */
  async removeTree(): Promise<void> {
    const remove = (kind: number, path: string) => unlessGone(this.#client.ask(path, STATUS, kind, path));
    const folders = [{ path: this.path, isEmpty: false }];
    let heldBytes = 0;
    const clear = async (path: string): Promise<void> => {
      for await (const entries of this.entries(path)) {
        const removed = entries.map(({ rawName, kind }) => {
          const inner = notLong(`${path}/${rawName.toString('latin1')}`);
          if (kind !== 'folder') return remove(SFTP_KIND.REMOVE, inner);
          heldBytes += inner.length + FOLDER_BYTES;
          if (heldBytes > MAX_TREE_BYTES) throw malformed('too many folders');
          folders.push({ path: inner, isEmpty: false });
          return Promise.resolve();
        });
        await Promise.all(removed);
      }
    };
    for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
      const { path, isEmpty } = folder;
      if (isEmpty) heldBytes -= path.length + FOLDER_BYTES;
      else folders.push({ path, isEmpty: true });
      await (isEmpty ? remove(SFTP_KIND.RMDIR, path) : unlessGone(clear(path)));
    }
  }

  async #ask(wanted: number, kind: number | string, ...values: readonly SftpValue[]): Promise<SftpFields> {
    const answer = await this.#client.ask(this.path, wanted, kind, ...values);
    if (answer === null) throw malformed('EOF');
    return answer;
  }
}
