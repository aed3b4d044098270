/** Reads the configuration from a file, from all files of a folder, or from a file and the folder that it includes. */
import { constants, createReadStream, openSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { Socket } from 'node:net';
import { dirname, isAbsolute, join } from 'node:path';
import { VproxyError } from '../../errors.js';
import { describeError } from '../../util/escape.js';
import type { FileLayer } from '../configuration.js';
import { BadFileError, type KeyPath, showFile } from '../problem.js';
import { INCLUDE } from '../settings-table.js';
import { isTable, Place } from '../value-type.js';
import { type ConfigurationDocument, parseDocument } from './document.js';
import { type ParsedConfiguration, parseConfiguration } from './parse-configuration.js';

/** Larger than a file with thousands of channels, in bytes. */
const MAX_FILE_BYTES = 4 * 2 ** 20;

/** For all files of a folder together. */
const MAX_FOLDER_BYTES = 16 * 2 ** 20;
const MAX_FOLDER_FILES = 4096;

/** The names that are read. Editors and package managers leave others, such as `vm1.toml~` and `.vm1.toml.swp`. */
const FILE_NAME = /^[^.].*\.(?:toml|json)$/s;

/** The contents of a file or a folder. Rejects with a `BadFileError` that has all problems. */
export async function readConfiguration(path: string, patienceMs = 0): Promise<FileLayer> {
  const { layer, problems } = await inspectConfiguration(path, patienceMs);
  if (problems.length > 0) throw new BadFileError(problems);
  return layer;
}

/** The contents of a file or a folder, and all their problems. A FIFO is given up after `patienceMs` without data; 0: never. */
export async function inspectConfiguration(path: string, patienceMs = 0): Promise<ParsedConfiguration> {
  if (await isFolder(path)) return parseConfiguration(await readFolder(path, { file: path, where: [] }), true);
  const main = await readDocument(path, { patienceMs });
  const folder = includedFolder(main);
  if (folder === null) return parseConfiguration([main]);
  return parseConfiguration([main, ...(await readFolder(folder, { file: path, where: [INCLUDE.key] }))], true);
}

/** The folder that a file includes; null also if the value is invalid, which `parseConfiguration` reports. */
function includedFolder(main: ConfigurationDocument): string | null {
  if (!('value' in main) || !isTable(main.value) || main.value[INCLUDE.key] === undefined) return null;
  const include = INCLUDE.type.read(main.value[INCLUDE.key], new Place('file', []))?.value ?? null;
  return include === null || isAbsolute(include) ? include : join(dirname(main.file), include);
}

/** The files of a folder, sorted by the bytes of their names. A problem of the folder itself is at `place`. */
async function readFolder(
  folder: string,
  { file, where }: { readonly file: string; readonly where: KeyPath },
): Promise<ConfigurationDocument[]> {
  const refuse = (message: string): ConfigurationDocument[] => [{ file, problem: { where, message } }];
  const shown = where.length === 0 ? '' : `${showFile(folder)} `;
  try {
    const names = (await readdir(folder)).filter((name) => FILE_NAME.test(name));
    if (names.length > MAX_FOLDER_FILES) return refuse(`${shown}has ${names.length} files (max ${MAX_FOLDER_FILES})`);
    const paths = names
      .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
      .map((name) => join(folder, name));
    const documents: ConfigurationDocument[] = [];
    let byteCount = 0;
    for (const path of paths) {
      byteCount += (await stat(path).catch(() => null))?.size ?? 0;
      if (byteCount > MAX_FOLDER_BYTES) return refuse(`${shown}has files of more than ${MAX_FOLDER_BYTES} bytes`);
      documents.push({ ...(await readDocument(path, { isRegular: true })), isInFolder: true });
    }
    return documents;
  } catch (error) {
    return refuse(`${shown}cannot be read: ${describeError(error)}`);
  }
}

const isFolder = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );

/** The bytes of a file. A FIFO, such as that of `<(command)`, is given up after `patienceMs` without any; 0: never. */
async function bytesOf(file: string, patienceMs: number): Promise<AsyncIterable<Buffer>> {
  if (!(await stat(file)).isFIFO()) return createReadStream(file);
  const socket = new Socket({ fd: openSync(file, constants.O_RDONLY | constants.O_NONBLOCK), writable: false });
  const late = new VproxyError('bad-file', `nothing was written to this FIFO for ${patienceMs / 1000} s`);
  return socket.setTimeout(patienceMs, () => socket.destroy(late));
}

/**
 * Never rejects. `isRegular`: refuses other files, such as a FIFO that has no writer. An empty file may be one that somebody is writing,
 * or that a crash cut, or a pipe that was read before: without what it had, such as keys, any peer would do.
 */
async function readDocument(file: string, { patienceMs = 0, isRegular = false }): Promise<ConfigurationDocument> {
  try {
    const stats = await stat(file);
    if (isRegular && !stats.isFile()) throw new VproxyError('bad-file', 'not a regular file');
    const chunks: Buffer[] = [];
    let byteCount = 0;
    // A FIFO or a device may have no end.
    for await (const chunk of await bytesOf(file, patienceMs)) {
      chunks.push(chunk);
      byteCount += chunk.length;
      if (byteCount > MAX_FILE_BYTES) throw new VproxyError('bad-file', `larger than ${MAX_FILE_BYTES} bytes`);
    }
    const text = new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
    if (!stats.isCharacterDevice() && text.trim() === '')
      return { file, problem: { where: [], message: 'empty; if it should be, put a comment in it (in JSON: {})' } };
    return parseDocument(text, file);
  } catch (error) {
    const why = error instanceof TypeError ? 'not valid UTF-8' : describeError(error);
    return { file, problem: { where: [], message: `cannot be read: ${why}` } };
  }
}
