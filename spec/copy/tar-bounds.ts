/** Headers between the entries of a tar, found wherever they are, but not in file contents resembling them; names and links. */
import test from 'ava';
import fc from 'fast-check';
import { VproxyError } from '../../lib/errors.js';
import { compareNames, isLinkInside, isPlainName } from '../../lib/services/copy/tar/names.js';
import { MAX_HEADER_BYTES, MAX_PAX_KEYS, TarBounds } from '../../lib/services/copy/tar/tar-bounds.js';
import { type HostileEntry, makeTar, paxOf, rawEntry } from '../helpers/hostile-copy.js';

/** The result for bytes cut into pieces of these sizes, repeatedly: a message, or null. */
function outcome(bytes: Buffer, sizes: readonly number[] = [65_536]): string | null {
  const bounds = new TarBounds();
  try {
    for (let at = 0, index = 0; at < bytes.length; index += 1) {
      const size = sizes[index % sizes.length] ?? 1;
      bounds.check(bytes.subarray(at, at + size));
      at += size;
    }
    return null;
  } catch (error) {
    if (!(error instanceof VproxyError) || error.code !== 'protocol-error') throw error;
    return error.message;
  }
}

const GLOBAL = rawEntry('g', Buffer.from('8 a=bcd\n'));
const IS_GLOBAL = 'copy: the tar is not valid: global pax headers are not supported';

/** Files whose contents look like refused headers, with names of any length, and sizes possibly from pax. */
const entry = fc
  .tuple(fc.nat(1500), fc.integer({ min: 1, max: 600 }), fc.nat(3))
  .map(([size, nameLength, kind]): HostileEntry => {
    const name = 'n'.repeat(nameLength);
    if (kind === 0) return { name, type: 'directory' };
    if (kind === 1) return { name, type: 'symlink', linkname: name };
    const body = Buffer.concat([GLOBAL, GLOBAL]).subarray(0, size);
    return { name, body, pax: kind === 2 ? { size: String(body.length), comment: 'x' } : { mtime: '1.5' } };
  });
const entries = fc.array(entry, { maxLength: 12 });

const sizes = fc.array(fc.integer({ min: 1, max: 1200 }), { minLength: 1, maxLength: 6 });

test('a global header is found after any entries, in any pieces, and nowhere else', async (t) => {
  await fc.assert(
    fc.asyncProperty(entries, sizes, async (given, cuts) => {
      const bytes = await makeTar(given);
      t.is(outcome(bytes, cuts), null);
      t.is(outcome(Buffer.concat([bytes.subarray(0, -1024), GLOBAL]), cuts), IS_GLOBAL);
    }),
    { numRuns: 60 },
  );
});

test('the next header is found after a file above 8 GiB, and one whose size is only in pax', (t) => {
  const huge = rawEntry('0', Buffer.alloc(0));
  huge.set([0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1], 124);
  t.is(outcome(Buffer.concat([huge, Buffer.alloc(1024, GLOBAL), GLOBAL])), IS_GLOBAL);
  t.is(outcome(Buffer.concat([huge, GLOBAL])), null);
  const pax = rawEntry('x', Buffer.from('12 size=700\n'));
  t.is(outcome(Buffer.concat([pax, rawEntry('0', Buffer.alloc(0)), Buffer.alloc(1024), GLOBAL])), IS_GLOBAL);
  t.is(outcome(Buffer.concat([pax, rawEntry('0', Buffer.alloc(0)), GLOBAL])), null);
});

test('the bytes before an entry are bounded, whatever they are', (t) => {
  const tooMuch = (bytes: number) =>
    `copy: the tar is not valid: too many header bytes before an entry: ${bytes} (max ${MAX_HEADER_BYTES})`;
  const comment = (bytes: number): Buffer => Buffer.from(`${bytes} comment=${'c'.repeat(bytes - 15)}\n`);
  const mostBytes = MAX_HEADER_BYTES - 1024;
  t.is(comment(mostBytes).length, mostBytes);
  t.is(outcome(Buffer.concat([rawEntry('x', comment(mostBytes)), rawEntry('0', Buffer.alloc(0))])), null);
  t.is(outcome(rawEntry('x', comment(mostBytes + 1024))), tooMuch(MAX_HEADER_BYTES + 512));
  for (const kind of ['x', 'L', 'K', 'N']) {
    t.is(outcome(rawEntry(kind, Buffer.alloc(0), 2 ** 32)), tooMuch(2 ** 32 + 512), kind);
  }
  t.is(outcome(Buffer.alloc(MAX_HEADER_BYTES)), null);
  t.is(outcome(Buffer.alloc(MAX_HEADER_BYTES + 512)), tooMuch(MAX_HEADER_BYTES + 512));
  const each = Buffer.concat([rawEntry('x', paxOf(1)), rawEntry('0', Buffer.alloc(0))]);
  t.is(outcome(Buffer.concat(Array.from({ length: 100 }, () => each))), null);
});

test('the keys of a pax header are bounded', (t) => {
  t.is(outcome(rawEntry('x', paxOf(MAX_PAX_KEYS))), null);
  const tooMany = `copy: the tar is not valid: too many keys in a pax header (max ${MAX_PAX_KEYS})`;
  t.is(outcome(rawEntry('x', paxOf(MAX_PAX_KEYS + 1))), tooMany);
});

test('a malformed pax header is refused', (t) => {
  const texts = 'x|5 a=b\n|7 a=b\n|06 a=b\n|-6 a=b\n|6 a=bc|6 abc\n|6 =bc\n|6 a=b\n6|4 a\n6 a=b\n'.split('|');
  for (const text of texts) {
    const refusal = outcome(rawEntry('x', Buffer.from(text))) ?? '';
    t.regex(
      refusal,
      /^copy: the tar is not valid: (malformed pax header|pax record without a key)$/,
      JSON.stringify(text),
    );
  }
});

test('an invalid size, or one that tar-stream may read differently, is refused', (t) => {
  const refusal = 'copy: the tar is not valid: entry size is not valid';
  for (const size of ['-1', '', 'x', '1e3', '9007199254740993', '99999999999999999']) {
    const record = ` size=${size}\n`;
    const length = record.length + (record.length > 8 ? 2 : 1);
    t.is(outcome(rawEntry('x', Buffer.from(`${length}${record}`))), refusal, `"${size}" of pax`);
  }
  const binary = `\x80${'\0'.repeat(4)}\x01${'\0'.repeat(6)}`;
  for (const field of ['0000000001', '        12 ', '00000000008 ', binary, '\xff'.repeat(12)]) {
    const header = rawEntry('0', Buffer.alloc(0));
    header.fill(0, 124, 136);
    header.write(field, 124, 'latin1');
    t.is(outcome(header), refusal, JSON.stringify(field));
  }
});

test('names are ordered by their bytes', (t) => {
  const name = fc.string({ unit: 'grapheme', maxLength: 4 });
  fc.assert(
    fc.property(name, name, (a, b) => {
      t.is(Math.sign(compareNames(a, b)), Math.sign(Buffer.compare(Buffer.from(a), Buffer.from(b))));
    }),
    { examples: [['\uffee', '\u{1f600}']] },
  );
});

test('a plain name is a single file in a folder', (t) => {
  for (const name of ['a', '...', '.a', ' ', '\n', '\\', 'ü']) t.true(isPlainName(name), name);
  for (const name of ['', '.', '..', 'a/b', '/', 'a\0', 1, null, undefined]) t.false(isPlainName(name), String(name));
});

test('a link stays inside if it goes up no further than its folder is deep, and only at its beginning', (t) => {
  const inside = ['0 a', '0 ./a/b', '1 ..', '1 ../a', '2 ../../a', '2 .././../a/', '0 a..b/...', '0 .'];
  const outside = ['5 ', '5 /', '5 /a', '0 ..', '0 ../a', '1 ../..', '5 a/..', '5 ../a/../b', '5 a\0'];
  for (const text of [...inside, ...outside]) {
    t.is(isLinkInside(text.slice(2), Number(text[0])), inside.includes(text), text);
  }
});
