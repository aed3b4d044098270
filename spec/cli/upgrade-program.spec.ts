/** Before an upgrade: the program that may be the successor, and what it is handed over, as bytes. */
import {
  chmodSync,
  chownSync,
  closeSync,
  copyFileSync,
  fstatSync,
  lchownSync,
  mkdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { decodeDocument, encodeDocument, type HandoverDocument } from '../../cli/upgrade/document.js';
import { requireMemory } from '../../cli/upgrade/predecessor.js';
import { openSafe, requireSafe } from '../../cli/upgrade/program.js';
import { temporaryFolder } from '../helpers/files.js';

const OTHER_USER = 12_345;

/** A program in a folder, both of which only their owner may write. */
function programOf(t: ExecutionContext): { readonly folder: string; readonly program: string } {
  const folder = join(temporaryFolder(t), 'folder');
  mkdirSync(folder, { mode: 0o755 });
  const program = join(folder, 'program');
  writeFileSync(program, '', { mode: 0o755 });
  return { folder, program };
}

const refuses = (t: ExecutionContext, path: string, message: RegExp): void => {
  t.throws(() => requireSafe(path), { code: 'upgrade-failed', message });
};

test('a program is run that only root and the user can have put there', (t) => {
  const { folder, program } = programOf(t);
  t.notThrows(() => requireSafe(program));
  chmodSync(program, 0o757);
  refuses(t, program, /\/program can be written by other users$/);
  if (process.getuid?.() === 0) {
    chmodSync(program, 0o775);
    chownSync(program, 0, OTHER_USER);
    refuses(t, program, /\/program can be written by other users$/);
  }
  chmodSync(program, 0o755);
  chmodSync(folder, 0o777);
  refuses(t, program, /\/folder can be written by other users$/);
  // Where nobody can replace what belongs to another user.
  chmodSync(folder, 0o1777);
  t.notThrows(() => requireSafe(program));
  refuses(t, join(folder, 'missing'), /no such file/);
  symlinkSync('circle', join(folder, 'circle'));
  refuses(t, join(folder, 'circle'), /too many links$/);
});

test('a link is not run that leads to, or goes through, what others can write', (t) => {
  const [safe, open] = [programOf(t), programOf(t)];
  chmodSync(open.folder, 0o777);
  for (const [link, target] of [
    [join(safe.folder, 'to-open'), open.program],
    [join(open.folder, 'to-safe'), safe.program],
  ] as const) {
    symlinkSync(target, link);
    refuses(t, link, /\/folder can be written by other users$/);
  }
});

test("another user's program is not run, and root's is", (t) => {
  const { program } = programOf(t);
  if (process.getuid?.() !== 0) {
    t.throws(() => requireSafe(program, OTHER_USER), { message: /belongs to another user/ });
    return;
  }
  t.notThrows(() => requireSafe(program, OTHER_USER));
  chownSync(program, OTHER_USER, 0);
  refuses(t, program, /\/program belongs to another user \(12345\)$/);
  t.notThrows(() => requireSafe(program, OTHER_USER));
});

test("another user's link is not followed, also in a folder where nobody can replace it", (t) => {
  if (process.getuid?.() !== 0) {
    t.pass('only root gives a link away');
    return;
  }
  const { folder, program } = programOf(t);
  const shared = join(folder, 'shared');
  mkdirSync(shared);
  chmodSync(shared, 0o1777);
  const [link, linkToFolder] = [join(shared, 'link'), join(shared, 'folder')];
  symlinkSync('../program', link);
  symlinkSync(folder, linkToFolder);
  t.is(requireSafe(link).path, program);
  t.is(requireSafe(`${linkToFolder}/shared/../program`).path, program);
  lchownSync(link, OTHER_USER, OTHER_USER);
  lchownSync(linkToFolder, OTHER_USER, OTHER_USER);
  refuses(t, link, /\/link belongs to another user \(12345\)$/);
  refuses(t, `${linkToFolder}/program`, /\/folder belongs to another user \(12345\)$/);
});

test('a program is run by the descriptor that was checked, and a script by its path', (t) => {
  const { folder, program } = programOf(t);
  writeFileSync(program, '#!/bin/sh\n');
  t.is(openSafe(program), null);
  t.throws(() => openSafe(folder), { message: /is no file$/ });
  copyFileSync('/bin/true', program);
  const fd = openSafe(program);
  if (fd === null) throw new Error('a program of the system is not run by its descriptor');
  t.is(fstatSync(fd).ino, statSync(program).ino);
  closeSync(fd);
});

const MIB = 2 ** 20;

test('a document has short bytes in it, and is followed by long ones as they are', (t) => {
  const [short, long] = [Buffer.from('short'), Buffer.alloc(100_000, 'long')];
  const state = { pieces: [short, long, short.subarray(0, 0), long.subarray(1)], counts: { sessions: 1 } };
  const { bytes, pieces } = encodeDocument(state as unknown as HandoverDocument);
  t.true(bytes.length < 1000);
  t.deepEqual(
    pieces.map(({ buffer }) => buffer),
    [long.buffer, long.buffer],
  );
  const left = [...pieces];
  const decoded: unknown = decodeDocument(bytes, (byteCount) => {
    const piece = left.shift() ?? Buffer.alloc(0);
    t.is(piece.length, byteCount);
    return piece;
  });
  t.deepEqual(decoded, state);
});

test('an upgrade that would not fit is refused with the figures', (t) => {
  const encoded = { bytes: Buffer.alloc(MIB), pieces: [Buffer.alloc(16 * MIB), Buffer.alloc(16 * MIB)] };
  const boundBy = 'the control group /system.slice/vproxy.service';
  t.notThrows(() => requireMemory(encoded, { bytes: 44 * MIB, boundBy }));
  t.notThrows(() => requireMemory(encoded, null));
  t.throws(() => requireMemory(encoded, { bytes: 43 * MIB, boundBy }), {
    code: 'upgrade-failed',
    message:
      /^not enough memory: 33\.6 MB wait .+ needs 46\.1 MB, where the control group \S+ leaves 45\.1 MB; try again/,
  });
});
