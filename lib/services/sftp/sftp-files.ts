/** The requests of a stream, and the files and folders that it has open. */
import fs, { type Stats } from 'node:fs';
import { link, lstat, mkdir, readlink, rename, rmdir, stat, statfs, symlink, unlink } from 'node:fs/promises';
import { promisify } from 'node:util';
import { systemCode } from '../../errors.js';
import { openOrdinary, shortageOfNext } from '../../system/descriptors.js';
import { Turns } from '../../util/concurrency.js';
import { describeError } from '../../util/escape.js';
import { type ByteFolder, isOfEntry, openByteFolder } from '../copy/folders.js';
import { denied, systemError } from '../copy/named-paths.js';
import { pathOf } from '../copy/staging/held-folder.js';
import { isLinkInside } from '../copy/tar/names.js';
import { attributesOf, describeEntry, modeOf, setAttributes } from './sftp-attributes.js';
import {
  ENTRIES_AT_ONCE,
  MAX_DATA_BYTES,
  MAX_HANDLES,
  MAX_PACKET_BYTES,
  SFTP_KIND,
  SFTP_STATUS,
} from './sftp-numbers.js';
import type { SftpFields, SftpValue } from './sftp-packets.js';
import { bytesOf, latinOf, type SftpPlaces } from './sftp-places.js';

const [read, write] = [promisify(fs.read), promisify(fs.write)];
const [fsync, close] = [promisify(fs.fsync), promisify(fs.close)];
const { O_WRONLY, O_RDWR, O_APPEND, O_CREAT, O_TRUNC, O_EXCL, O_NONBLOCK, O_NOCTTY, O_NOFOLLOW, O_DIRECTORY } =
  fs.constants;

/** What a handle stands for. */
interface SftpHandle {
  readonly fd: number;
  /** A path to it, whatever has its name by now. */
  readonly at: Buffer;
  /** Null for a file. */
  readonly folder: ByteFolder | null;
}

interface SftpRequest {
  readonly fields: SftpFields;
  readonly places: SftpPlaces;
  readonly files: SftpFiles;
}

/** The kind and the fields of a packet. */
type SftpAnswer = readonly [kind: number, ...fields: SftpValue[]];

/** Carries out a request; without an answer, it is a STATUS. Rejects with `protocol-error` if a field is missing, before it has done anything. */
type SftpOperation = (request: SftpRequest) => Promise<SftpAnswer> | Promise<void>;

/** Errors that the system does not have. */
const END = new Error('end of file');
const NO_HANDLE = new Error('no such handle');
const NO_FILE = new Error('not a file or folder');

/** The codes that OpenSSH has for errors; that of all others is FAILURE. */
const STATUSES: readonly (readonly [status: number, errors: readonly string[]])[] = [
  [SFTP_STATUS.NO_SUCH_FILE, ['ENOENT', 'ENOTDIR', 'EBADF', 'ELOOP']],
  [SFTP_STATUS.PERMISSION_DENIED, ['EPERM', 'EACCES', 'EFAULT', 'denied']],
  [SFTP_STATUS.BAD_MESSAGE, ['ENAMETOOLONG', 'EINVAL']],
  [SFTP_STATUS.OP_UNSUPPORTED, ['ENOSYS']],
];

/** The status of a failed request, and a text. */
export function statusOf(error: unknown): [status: number, message: string] {
  if (error === END) return [SFTP_STATUS.EOF, END.message];
  const [status] = STATUSES.find(([, errors]) => errors.includes(systemCode(error))) ?? [SFTP_STATUS.FAILURE];
  return [status, latinOf(describeError(error))];
}

/** For the requests of all streams. Each may take one of the four threads for system calls for ever, if its file system hangs. */
export const SFTP_TURNS = new Turns(2);

/** The first paths that were opened are logged. */
const MAX_LOGGED_PATHS = 32;

/** The flags of OPEN, from the second one on. */
const OPEN_FLAGS = [O_WRONLY, O_APPEND, O_CREAT, O_TRUNC, O_EXCL];
const READS_AND_WRITES = 3;

function requireFile(found: Stats | null): void {
  if (found?.isDirectory() === true) throw systemError('EISDIR');
  if (found?.isFile() === false) throw NO_FILE;
}

export class SftpFiles {
  readonly paths: string[] = [];
  openedCount = 0;
  readBytes = 0;
  writtenBytes = 0;
  readonly #handles = Array.from<SftpHandle | undefined>({ length: MAX_HANDLES });

  /** Opens a file. Anything else is refused, before it is opened: that may block, or start something. */
  async open({ fields, places }: SftpRequest): Promise<SftpAnswer> {
    const [path, wanted, set] = [fields.path(), fields.number(), fields.attributes()];
    const number = this.#next();
    const at = await places.target(path);
    requireFile(await (places.isConfined ? lstat : stat)(at).catch(() => null));
    let flags = O_NONBLOCK | O_NOCTTY | (places.isConfined ? O_NOFOLLOW : 0);
    OPEN_FLAGS.forEach((flag, bit) => {
      if (((wanted >> (bit + 1)) & 1) === 1) flags |= flag;
    });
    if ((wanted & READS_AND_WRITES) === READS_AND_WRITES) flags = (flags & ~O_WRONLY) | O_RDWR;
    const fd = await openOrdinary(at, flags, modeOf(set, 0o666));
    return this.#add(number, path, fd, async (now) => {
      requireFile(await stat(now));
      return null;
    });
  }

  async openFolder({ fields, places }: SftpRequest): Promise<SftpAnswer> {
    const path = fields.path();
    const number = this.#next();
    const fd = await openOrdinary(await places.entry(path), O_DIRECTORY | O_NONBLOCK);
    return this.#add(number, path, fd, async (at) => {
      // One by one, so that one that is gone is left out alone.
      const folder = await openByteFolder(at, 1);
      // Its descriptor, whose number is unknown, or a later one.
      const shortage = shortageOfNext(0);
      if (shortage === null) return folder;
      await folder.close();
      throw new Error(shortage);
    });
  }

  /** What a handle stands for. Throws for one that is not open. */
  get(handle: string): SftpHandle {
    const found = this.#handles[numberOf(handle)];
    if (found === undefined) throw NO_HANDLE;
    return found;
  }

  /** The descriptor of a file. */
  file(handle: string): number {
    const { fd, folder } = this.get(handle);
    if (folder !== null) throw NO_HANDLE;
    return fd;
  }

  async close({ fields }: SftpRequest): Promise<void> {
    const handle = fields.text();
    const found = this.get(handle);
    this.#handles[numberOf(handle)] = undefined;
    await closeHandle(found);
  }

  async closeAll(): Promise<void> {
    for (const each of this.#handles.splice(0)) if (each !== undefined) await closeHandle(each).catch(() => undefined);
  }

  /** Finds a free handle, before the open that may create or truncate the file. Throws if none is left. */
  #next(): number {
    const number = this.#handles.indexOf(undefined);
    if (number === -1) throw new Error(`too many open handles (max ${MAX_HANDLES})`);
    return number;
  }

  /** Returns a new handle for what is open; `look` checks it, and returns what reads it if it is a folder. */
  async #add(
    number: number,
    path: string,
    fd: number,
    look: (at: Buffer) => Promise<ByteFolder | null>,
  ): Promise<SftpAnswer> {
    const at = Buffer.from(pathOf(fd));
    try {
      this.#handles[number] = { fd, at, folder: await look(at) };
      this.openedCount += 1;
      if (this.paths.length < MAX_LOGGED_PATHS) this.paths.push(bytesOf(path).toString());
      return [SFTP_KIND.HANDLE, String.fromCharCode(0, 0, 0, number)];
    } catch (error) {
      await close(fd);
      throw error;
    }
  }
}

/** The number of a handle; one that no handle has for any other text. */
const numberOf = (handle: string): number => (handle.length === 4 ? bytesOf(handle).readUInt32BE() : MAX_HANDLES);

async function closeHandle({ fd, folder }: SftpHandle): Promise<void> {
  await folder?.close();
  await close(fd);
}

/** Numbers of Node are exact up to there. */
function positionOf(offset: bigint): number {
  if (offset > Number.MAX_SAFE_INTEGER) throw systemError('EINVAL');
  return Number(offset);
}

async function readData({ fields, files }: SftpRequest): Promise<SftpAnswer> {
  const [handle, offset, length] = [fields.text(), fields.long(), Math.min(fields.number(), MAX_DATA_BYTES)];
  const fd = files.file(handle);
  const { bytesRead, buffer } = await read(fd, Buffer.allocUnsafeSlow(length), 0, length, positionOf(offset));
  if (bytesRead === 0 && length > 0) throw END;
  files.readBytes += bytesRead;
  return [SFTP_KIND.DATA, buffer.subarray(0, bytesRead)];
}

async function writeData({ fields, files }: SftpRequest): Promise<void> {
  const [handle, offset, data] = [fields.text(), fields.long(), fields.data()];
  const [fd, start] = [files.file(handle), positionOf(offset)];
  for (let done = 0; done < data.length; ) {
    const { bytesWritten } = await write(fd, data, done, data.length - done, start + done);
    done += bytesWritten;
    files.writtenBytes += bytesWritten;
  }
}

/** The next entries of a folder. Unlike all other requests, it takes turns by itself, one for each entry. */
async function list({ fields, files }: SftpRequest): Promise<SftpAnswer> {
  const { at, folder } = files.get(fields.text());
  if (folder === null) throw NO_HANDLE;
  for (;;) {
    const looks: Promise<readonly SftpValue[]>[] = [];
    while (looks.length < ENTRIES_AT_ONCE) {
      const name = await SFTP_TURNS.run(null, () => nextName(folder));
      if (name === null) break;
      looks.push(SFTP_TURNS.run(null, () => lookAt(at, name)));
    }
    if (looks.length === 0) throw END;
    const found = (await Promise.all(looks)).filter(({ length }) => length > 0);
    if (found.length > 0) return [SFTP_KIND.NAME, found.length, ...found.flat()];
  }
}

/** Null: there are no more. */
async function nextName(folder: ByteFolder): Promise<Buffer | null> {
  for (;;) {
    try {
      return (await folder.read())?.name ?? null;
    } catch (error) {
      if (!isOfEntry(error)) throw error;
    }
  }
}

const SLASH = Buffer.from('/');

/** An entry for a NAME; nothing if it is gone by now. */
async function lookAt(folder: Buffer, name: Buffer): Promise<readonly SftpValue[]> {
  const stats = await lstat(Buffer.concat([folder, SLASH, name])).catch(() => null);
  return stats === null ? [] : [name, describeEntry(name.toString('latin1'), stats), ...attributesOf(stats)];
}

/** Renames something, unless there is something of the new name. Only a link of a file can be made so in one step. */
async function renameNew(from: Buffer, to: Buffer): Promise<void> {
  if ((await lstat(from)).isFile()) {
    const code = await link(from, to).then(() => '', systemCode);
    if (code === '')
      return unlink(from).catch(async (error: unknown) => {
        await unlink(to);
        throw error;
      });
    if (code === 'EEXIST') throw systemError(code);
  }
  if ((await lstat(to).catch(() => null)) !== null) throw systemError('EEXIST');
  return rename(from, to);
}

/** Makes a link. If confined, its target is below the link, so that it stays inside even if moved. */
async function makeLink({ fields, places }: SftpRequest): Promise<void> {
  // The other way round in the draft.
  const [target, path] = [fields.path(), fields.path()];
  if (places.isConfined && !isLinkInside(target, 0)) throw denied();
  await symlink(bytesOf(target), await places.name(path));
}

/** As in statvfs(3), as far as Node tells. */
async function spaceOf(at: Buffer): Promise<SftpAnswer> {
  const { bsize, blocks, bfree, bavail, files, ffree } = await statfs(at, { bigint: true });
  return [SFTP_KIND.EXTENDED_REPLY, bsize, bsize, blocks, bfree, bavail, files, ffree, ffree, 0n, 0n, NAME_MAX];
}

const NAME_MAX = 255n;

const nameAnswer = (path: string): SftpAnswer => [SFTP_KIND.NAME, 1, path, path, 0];

/** An operation on the name of an entry. */
const onName =
  (work: (at: Buffer) => Promise<void>): SftpOperation =>
  async ({ fields, places }) =>
    work(await places.name(fields.path()));

const onNames =
  (work: (from: Buffer, to: Buffer) => Promise<void>): SftpOperation =>
  async ({ fields, places }) => {
    const [from, to] = [fields.path(), fields.path()];
    return work(await places.name(from), await places.name(to));
  };

async function makeFolder({ fields, places }: SftpRequest): Promise<void> {
  const [path, set] = [fields.path(), fields.attributes()];
  return mkdir(await places.name(path), modeOf(set, 0o777));
}

async function setByPath({ fields, places }: SftpRequest): Promise<void> {
  const [path, set] = [fields.path(), fields.attributes()];
  return setAttributes(await places.entry(path), set, null);
}

async function setByHandle({ fields, files }: SftpRequest): Promise<void> {
  const [handle, set] = [fields.text(), fields.attributes()];
  const { at, fd, folder } = files.get(handle);
  return setAttributes(at, set, folder === null ? fd : null);
}

const attributesAnswer = (stats: Stats): SftpAnswer => [SFTP_KIND.ATTRS, ...attributesOf(stats)];

/** Of a packet, the data of READ and of WRITE, and handles. */
const LIMITS = [MAX_PACKET_BYTES, MAX_DATA_BYTES, MAX_DATA_BYTES, MAX_HANDLES];

/** The requests, by kind or by the name of an extension. */
const OPERATIONS: readonly (readonly [number | string, SftpOperation])[] = [
  [SFTP_KIND.OPEN, (request) => request.files.open(request)],
  [SFTP_KIND.CLOSE, (request) => request.files.close(request)],
  [SFTP_KIND.READ, readData],
  [SFTP_KIND.WRITE, writeData],
  [SFTP_KIND.LSTAT, async ({ fields, places }) => attributesAnswer(await places.lstat(fields.path()))],
  [SFTP_KIND.STAT, async ({ fields, places }) => attributesAnswer(await stat(await places.entry(fields.path())))],
  [SFTP_KIND.FSTAT, async ({ fields, files }) => attributesAnswer(await stat(files.get(fields.text()).at))],
  [SFTP_KIND.SETSTAT, setByPath],
  [SFTP_KIND.FSETSTAT, setByHandle],
  [SFTP_KIND.OPENDIR, (request) => request.files.openFolder(request)],
  [SFTP_KIND.READDIR, list],
  [SFTP_KIND.REMOVE, onName(unlink)],
  [SFTP_KIND.MKDIR, makeFolder],
  [SFTP_KIND.RMDIR, onName(rmdir)],
  [SFTP_KIND.REALPATH, async ({ fields, places }) => nameAnswer(await places.real(fields.path()))],
  [SFTP_KIND.RENAME, onNames(renameNew)],
  [
    SFTP_KIND.READLINK,
    async ({ fields, places }) => nameAnswer(await readlink(await places.name(fields.path()), 'latin1')),
  ],
  [SFTP_KIND.SYMLINK, makeLink],
  ['posix-rename@openssh.com', onNames(rename)],
  ['hardlink@openssh.com', onNames(link)],
  ['statvfs@openssh.com', async ({ fields, places }) => spaceOf(await places.entry(fields.path()))],
  ['fstatvfs@openssh.com', async ({ fields, files }) => spaceOf(files.get(fields.text()).at)],
  ['fsync@openssh.com', async ({ fields, files }) => fsync(files.file(fields.text()))],
  ['limits@openssh.com', () => Promise.resolve<SftpAnswer>([SFTP_KIND.EXTENDED_REPLY, ...LIMITS.map(BigInt)])],
];

export const SFTP_OPERATIONS: ReadonlyMap<number | string, SftpOperation> = new Map(OPERATIONS);
