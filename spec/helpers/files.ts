/** The files of specs: the project's folder, a test's own folders and keys, and what a compiled module loads. */

import { createHash } from 'node:crypto';
import { chmodSync, Dir, type Dirent, lstatSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { eventually } from './time.js';

/** The project's folder, without a trailing slash. */
export const PROJECT_ROOT = fileURLToPath(new URL('../../..', import.meta.url)).replace(/\/$/, '');

/** A text file of the project. */
export const projectText = (path: string): string => readFileSync(join(PROJECT_ROOT, path), 'utf8');

/**
 * The rows of a table in `spec/fixtures`: a text, and the indented lines below it. A line in double quotes is a string of JSON;
 * lines that begin with # are comments.
 */
export function fixtureRows(name: string): (readonly [text: string, ...below: string[]])[] {
  const table = projectText(`spec/fixtures/${name}`).replace(/^#.*\n/gm, '');
  const read = (line: string): string => (/^".*"$/.test(line) ? (JSON.parse(line) as string) : line);
  return table.split(/(?<=^ {2}.*)\n(?!$| )/m).map((row) => {
    const [text = '', ...below] = row.trimEnd().split(/\n {2}/);
    return [text.split('\n').map(read).join('\n'), ...below.map(read)];
  });
}

/** The path of koffi's native library, as installed by npm. */
export const koffiLibrary = (): string =>
  join(PROJECT_ROOT, `node_modules/@koromix/koffi-linux-${process.arch}/linux_${process.arch}/koffi.node`);

/** A new empty folder, removed when the test ends. */
export function temporaryFolder(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Writes a key whose bytes are all `byte` (two hex digits) to a file in `folder`, and returns its path. */
export function writeKeyFile(folder: string, name: string, byte: string, mode = 0o600): string {
  const path = join(folder, name);
  writeFileSync(path, `${byte.repeat(32)}\n`, { mode });
  chmodSync(path, mode);
  return path;
}

// Times of files, which the system counts in steps of some milliseconds.

/** Resolves once a new file would be younger than the one at `path`, by the times that the system records. */
export async function untilYounger(path: string): Promise<void> {
  const probe = `${path}.probe`;
  await eventually(() => {
    writeFileSync(probe, '');
    return lstatSync(probe).ctimeMs > lstatSync(path).ctimeMs;
  });
}

export function sha256(bytes: Buffer | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

// The modules that a compiled module loads at once, not those that it may load later.

/** The paths of all files that these files load, including themselves, and the names of packages and built-in modules. */
export function staticImports(files: readonly string[], found = new Set<string>()): Set<string> {
  for (const file of files) {
    if (found.has(file)) continue;
    found.add(file);
    const text = readFileSync(file, 'utf8');
    const names = [...text.matchAll(/^(?:import|export) (?:[^'"]* from )?'([^']+)'/gm)].map(([, name = '']) => name);
    for (const name of names) {
      if (name.startsWith('.')) staticImports([join(dirname(file), name)], found);
      else found.add(name);
    }
  }
  return found;
}

/**
 * Until the test ends, has Node look at each entry that it reads, as it does if the file system does not tell its kind. One named
 * "gone" is removed before.
 */
export function withoutKinds(t: ExecutionContext): void {
  const { value, ...others } = Object.getOwnPropertyDescriptor(Dir.prototype, 'read') as TypedPropertyDescriptor<
    (this: Dir) => Promise<Dirent<string | Buffer> | null>
  >;
  async function read(this: Dir): ReturnType<NonNullable<typeof value>> {
    const entry = (await value?.call(this)) ?? null;
    const name = entry?.name ?? '';
    if (name.toString() === 'gone') rmSync(`${this.path}/gone`);
    // Joined as by Node: a name of text is one of UTF-8.
    lstatSync(typeof name === 'string' ? `${this.path}/${name}` : Buffer.concat([Buffer.from(`${this.path}/`), name]));
    return entry;
  }
  Object.defineProperty(Dir.prototype, 'read', { ...others, value: read });
  t.teardown(() => Object.defineProperty(Dir.prototype, 'read', { ...others, value }));
}
