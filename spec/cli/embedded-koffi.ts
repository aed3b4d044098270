/** koffi of the single executable: from the file of a package, or from a temporary file; and files that are rejected. */
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { loadKoffi } from '../../cli/embedded-koffi.js';
import { koffiLibrary, temporaryFolder } from '../helpers/files.js';

const LIBRARY = readFileSync(koffiLibrary());

/** Paths below a folder of files that this process has mapped. */
function loadedFrom(folder: string): string[] {
  const maps = readFileSync('/proc/self/maps', 'utf8');
  return [...new Set([...maps.matchAll(/ (\/.*)$/gm)].map(([, path = '']) => path))].filter((path) =>
    path.startsWith(folder),
  );
}

/** The file of a package, with these bytes and this mode. */
function install(t: ExecutionContext, bytes: Buffer, mode: number): { folder: string; installed: string } {
  const folder = temporaryFolder(t);
  const installed = join(folder, 'koffi.node');
  writeFileSync(installed, bytes);
  chmodSync(installed, mode);
  return { folder, installed };
}

function works(t: ExecutionContext, koffi: ReturnType<typeof loadKoffi>): void {
  t.is(koffi.load(null).func('int getppid()')(), process.ppid);
}

test('the file of a package is loaded in place, and nothing is written', (t) => {
  const { folder, installed } = install(t, LIBRARY, 0o644);
  const unpacking = temporaryFolder(t);
  works(t, loadKoffi(LIBRARY, { installed, folders: [unpacking] }));
  t.deepEqual(loadedFrom(folder), [installed]);
  t.deepEqual(loadedFrom(unpacking), []);
});

const OTHER = Buffer.from(LIBRARY);
OTHER[OTHER.length - 1] = (OTHER.at(-1) ?? 0) ^ 1;

for (const [what, bytes, mode] of [
  ['of another version', OTHER, 0o644],
  ['that a group may write', LIBRARY, 0o664],
  ['that anybody may write', LIBRARY, 0o646],
] as const) {
  test(`a file ${what} is not loaded; koffi is unpacked, and nothing is left behind`, (t) => {
    const { folder, installed } = install(t, bytes, mode);
    const unpacking = temporaryFolder(t);
    works(t, loadKoffi(LIBRARY, { installed, folders: [unpacking] }));
    t.deepEqual(loadedFrom(folder), []);
    t.regex(loadedFrom(unpacking).join('\n'), /^\S+\/vproxy-koffi-\w+\/koffi\.node \(deleted\)$/);
    t.deepEqual(readdirSync(unpacking), []);
  });
}

test('if it cannot be unpacked, the next folder is used', (t) => {
  const folder = temporaryFolder(t);
  const file = join(folder, 'file');
  const last = join(folder, 'last');
  writeFileSync(file, '');
  mkdirSync(last);
  works(t, loadKoffi(LIBRARY, { installed: join(folder, 'none'), folders: [join(folder, 'missing'), file, last] }));
  t.is(loadedFrom(last).length, 1);
});

test('a file that is not a library is an error, and leaves nothing behind', (t) => {
  const folder = temporaryFolder(t);
  const load = () => loadKoffi(Buffer.from('no library'), { installed: join(folder, 'none'), folders: [folder] });
  t.throws(load, { message: /koffi\.node/ });
  t.deepEqual(readdirSync(folder), []);
});
