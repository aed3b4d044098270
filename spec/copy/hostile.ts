/** Peers that try to escape the target, or send what no copy may contain: to a service, and to a caller. */
import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { COPY_KIND, encodeMessage } from '../../lib/services/copy/copy-messages.js';
import { encodeRecord } from '../../lib/util/bytes/records.js';
import { describeTree, farSide } from '../helpers/copy-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import {
  type HostileCopy,
  type HostileEntry,
  hostilePlaces,
  makeTar,
  paxOf,
  rawEntry,
  sendHostile,
  tarRecords,
} from '../helpers/hostile-copy.js';

const test = farSide.testWith();

const APP: HostileEntry = { name: 'app', type: 'directory', mode: 0o755 };
const file = (name: string, body = 'bad'): HostileEntry => ({ name, body });
const folder = (name: string): HostileEntry => ({ ...APP, name });
const link = (name: string, linkname: string): HostileEntry => ({ name, type: 'symlink', linkname });

/** Package tar of Go refuses a name with NUL before vproxy-guest sees it. */
const NUL_CODE = farSide.start === null ? 'copy-refused' : 'protocol-error';

const TARS: readonly (readonly [title: string, code: string, entries: readonly HostileEntry[]])[] = [
  ['a name that leads up', 'copy-refused', [APP, file('app/../../evil')]],
  ['a name that is absolute', 'copy-refused', [APP, file('/evil')]],
  ['a name with an empty part', 'copy-refused', [APP, file('app//evil')]],
  ['the name .', 'copy-refused', [APP, file('app/.')]],
  ['an empty name', 'copy-refused', [APP, file('')]],
  ['a name with NUL', NUL_CODE, [APP, { ...file('x'), pax: { path: 'app/a\0b' } }]],
  ['a path too long', 'copy-refused', [APP, file(`app/${'x/'.repeat(2100)}y`)]],
  ['a name too long for the system', 'copy-failed', [APP, file(`app/${'x'.repeat(300)}`)]],
  ['a file that is not in a folder of the copy', 'copy-refused', [APP, file('app/sub/evil')]],
  ['another top', 'copy-refused', [APP, file('other')]],
  ['a file where a folder was announced', 'copy-refused', [file('app')]],
  ['a link where a folder was announced', 'copy-refused', [link('app', 'x')]],
  ['the top twice', 'copy-refused', [APP, APP]],
  ['a name twice', 'copy-refused', [APP, file('app/a'), file('app/a')]],
  ['a folder twice', 'copy-refused', [APP, folder('app/a'), folder('app/a')]],
  ['names out of order', 'copy-refused', [APP, file('app/b'), file('app/a')]],
  ['a file through a link', 'copy-refused', [APP, link('app/a', '..'), file('app/a/evil')]],
  ['a file through a link inside', 'copy-refused', [APP, folder('app/d'), link('app/l', 'd'), file('app/l/x')]],
  ['a name twice with a link in between', 'copy-refused', [APP, link('app/a', 'b'), folder('app/a')]],
  ['an absolute link', 'copy-refused', [APP, link('app/l', '/etc/passwd')]],
  ['a link that goes up after a name', 'copy-refused', [APP, link('app/l', 'x/../../evil')]],
  [
    'a link that leads up through another',
    'copy-refused',
    [APP, folder('app/d'), link('app/d/up', '..'), link('app/z', 'd/up/..')],
  ],
  ['a link to nothing', 'copy-refused', [APP, { ...link('app/l', 'x'), pax: { linkpath: '' } }, link('app/m', '')]],
  ['a hard link', 'copy-refused', [APP, { name: 'app/h', type: 'link', linkname: '/etc/passwd' }]],
  ['a character device', 'copy-refused', [APP, { name: 'app/d', type: 'character-device', devmajor: 1, devminor: 5 }]],
  ['a FIFO', 'copy-refused', [APP, { name: 'app/f', type: 'fifo' }]],
  ['a file as contiguous-file', 'copy-refused', [APP, { name: 'app/c', type: 'contiguous-file', size: 0 }]],
  [
    'an offset into a file that is not there',
    'protocol-error',
    [APP, { ...file('app/a'), pax: { 'VPROXY.offset': '5' } }],
  ],
  ['an offset that is not a number', 'protocol-error', [APP, { ...file('app/a'), pax: { 'VPROXY.offset': '-5' } }]],
  ['a size larger than the contents', 'protocol-error', [APP, { ...file('app/a'), pax: { size: '1000000' } }]],
  ['nothing', 'protocol-error', []],
  ['no checks', 'protocol-error', [APP, file('app/a')]],
];

for (const place of hostilePlaces()) {
  for (const [title, code, entries] of TARS) {
    test(`${place}: refused: ${title}`, async (t) => {
      const top = temporaryFolder(t);
      const target = join(top, 'target');
      mkdirSync(target);
      const before = describeTree(top).map((line) => line.split(' ')[0]);
      t.is(await sendHostile(t, place, target, { records: tarRecords(await makeTar(entries)) }), code);
      const paths = describeTree(top).map((line) => line.split(' ')[0]);
      t.deepEqual(paths, before);
      t.false(existsSync('/evil'));
    });
  }

  const RECORDS: readonly (readonly [title: string, code: string, make: () => HostileCopy | Promise<HostileCopy>])[] = [
    ['random bytes as a tar', 'protocol-error', () => ({ records: tarRecords(Buffer.alloc(2048, 'x')) })],
    // Neither marks its end: without a bound the receiver would wait for more.
    ['an endless header', 'protocol-error', async () => withoutEnd(await endlessHeader())],
    ['endless empty blocks', 'protocol-error', () => withoutEnd(Buffer.alloc(20_000))],
    ['a global pax header', 'protocol-error', () => behindFirst(rawEntry('g', Buffer.from('8 a=bcd\n')))],
    ['a pax header with a thousand keys', 'protocol-error', () => behindFirst(rawEntry('x', paxOf(1000)))],
    [
      'a thousand headers of pax',
      'protocol-error',
      () => behindFirst(...Array<Buffer>(1000).fill(rawEntry('x', paxOf(1)))),
    ],
    ['a long-name header of GNU tar', 'protocol-error', () => behindFirst(rawEntry('L', Buffer.alloc(20_000, 'n')))],
    ...((farSide.start === null
      ? // tar-stream would take what follows for its contents.
        [['an empty pax header', 'protocol-error', () => behindFirst(rawEntry('x', Buffer.alloc(0)))]]
      : []) as readonly [string, string, () => Promise<HostileCopy>][]),
    ['a wrong check', 'copy-failed', async () => ({ records: [...(await dataOf([APP, file('app/a')])), CHECK, END] })],
    ['checks without files', 'protocol-error', async () => ({ records: [...(await dataOf([APP])), CHECK, END] })],
    ['endless checks', 'protocol-error', () => ({ records: Array<Buffer>(9).fill(manyChecks()) })],
    ['a second plan', 'protocol-error', () => ({ records: [encodeMessage(COPY_KIND.PLAN, {})] })],
    ['a record too long', 'protocol-error', () => ({ records: [Buffer.from([7, 0xff, 0, 0, 0])] })],
    ['a plan with a path', 'protocol-error', () => ({ roots: [{ name: '../app', kind: 'folder' }], records: [] })],
    ['a plan with a device', 'protocol-error', () => ({ roots: [{ name: 'app', kind: 'device' }], records: [] })],
    ['an empty plan', 'protocol-error', () => ({ roots: [], records: [] })],
    ['a plan with a name twice', 'copy-refused', () => ({ roots: [APP_FILE, APP_FILE], records: [] })],
  ];
  for (const [title, code, make] of RECORDS) {
    test(`${place}: refused: ${title}`, async (t) => {
      const target = temporaryFolder(t);
      t.is(await sendHostile(t, place, target, await make()), code);
      t.deepEqual(readdirSync(target), []);
    });
  }

  test(`${place}: neither a link that is kept nor one that an earlier copy kept is written through`, async (t) => {
    const top = temporaryFolder(t);
    const [target, outside] = [join(top, 'target'), join(top, 'outside')];
    for (const path of [target, outside]) mkdirSync(path);
    const send = async (...entries: readonly HostileEntry[]) =>
      sendHostile(t, place, target, { records: [...(await dataOf([APP, ...entries])), END], keepsLinks: true });
    const out = link('app/out', outside);
    for (const through of [file('app/out/evil'), folder('app/out'), file('app/out'), link('app/out/l', '/')]) {
      t.is(await send(out, through), 'copy-refused', through.name);
      t.deepEqual(readdirSync(target), []);
    }
    t.is(await send(out), 'done');
    t.is(await send(folder('app/out'), file('app/out/evil')), 'copy-refused');
    t.is(await send({ ...out, pax: { linkpath: 'a\0b' } }), NUL_CODE);
    t.deepEqual([readdirSync(outside), readdirSync(join(target, 'app')), readdirSync(target)], [[], ['out'], ['app']]);
  });

  test(`${place}: an existing link is not written through`, async (t) => {
    const top = temporaryFolder(t);
    const [target, outside] = [join(top, 'target'), join(top, 'outside')];
    mkdirSync(join(target, 'app'), { recursive: true });
    mkdirSync(outside);
    symlinkSync(outside, join(target, 'app/sub'));
    const records = [...(await dataOf([APP, folder('app/sub'), file('app/sub/evil')])), END];
    t.is(await sendHostile(t, place, target, { records }), 'copy-refused');
    t.deepEqual(readdirSync(outside), []);
    t.deepEqual(readdirSync(target), ['app']);
  });

  test(`${place}: a link left by an earlier copy is not written through`, async (t) => {
    const top = temporaryFolder(t);
    const [target, outside] = [join(top, 'target'), join(top, 'outside')];
    mkdirSync(join(target, '.app.vproxy-part'), { recursive: true });
    mkdirSync(outside);
    writeFileSync(join(outside, 'kept'), 'kept');
    symlinkSync(outside, join(target, '.app.vproxy-part/sub'));
    symlinkSync(join(outside, 'kept'), join(target, '.app.vproxy-part/file'));
    const records = [
      ...(await dataOf([APP, file('app/file', ''), folder('app/sub'), file('app/sub/evil', '')])),
      CHECKS_OF_EMPTY,
      END,
    ];
    t.is(await sendHostile(t, place, target, { records, isResumed: true }), 'done');
    const kept = describeTree(outside).filter((line) => line.startsWith('/kept'));
    t.deepEqual(describeTree(outside).slice(1), kept);
    t.deepEqual(readdirSync(join(target, 'app/sub')), ['evil']);
  });
}

test('put: the bad header, not the entries around it, ends a refused tar', async (t) => {
  const target = temporaryFolder(t);
  const { records } = await behindFirst(rawEntry('x', paxOf(1)));
  t.is(await sendHostile(t, 'put', target, { records }), 'done');
});

if (farSide.start === null) {
  test('get: files that were not requested are refused', async (t) => {
    const target = temporaryFolder(t);
    const copy = { roots: [{ name: '.bashrc', kind: 'file' }], records: [] };
    t.is(await sendHostile(t, 'get', target, copy), 'copy-refused');
    t.is(await sendHostile(t, 'get', target, { ...copy, roots: [...copy.roots, APP_FILE] }), 'copy-refused');
    t.deepEqual(readdirSync(target), []);
  });
}

const APP_FILE = { name: 'app', kind: 'file' };
const END = encodeMessage(COPY_KIND.END, {});
const CHECK = encodeRecord(COPY_KIND.CHECKS, Buffer.from([1, 2, 3, 4]));
const CHECKS_OF_EMPTY = encodeRecord(COPY_KIND.CHECKS, Buffer.alloc(8));

const dataOf = async (entries: readonly HostileEntry[]): Promise<Buffer[]> =>
  tarRecords(await makeTar(entries)).slice(0, -1);

const manyChecks = (): Buffer => encodeRecord(COPY_KIND.CHECKS, Buffer.alloc(40_000));

const withoutEnd = (bytes: Buffer): HostileCopy => ({ records: tarRecords(bytes).slice(0, -1) });

/** A copy that is valid except for what is put between its first and second entries. */
async function behindFirst(...raw: readonly Buffer[]): Promise<HostileCopy> {
  const [first, rest] = [await makeTar([APP]), await makeTar([file('app/a', '')])];
  const bytes = Buffer.concat([first.subarray(0, -1024), ...raw, rest]);
  return { records: [...tarRecords(bytes).slice(0, -1), encodeRecord(COPY_KIND.CHECKS, Buffer.alloc(4)), END] };
}

/** A pax header that claims 8 GB, and does not end. */
async function endlessHeader(): Promise<Buffer> {
  const header = rawEntry('x', Buffer.alloc(0), 0o77777777777);
  return Buffer.concat([(await makeTar([APP])).subarray(0, -1024), header, Buffer.alloc(1_000_000, 'y')]);
}
