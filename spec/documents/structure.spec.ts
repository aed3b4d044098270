/** The layout of the sources (docs/architecture.md), and the idioms that they avoid, as far as lint does not check them. */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import test from 'ava';
import ts from 'typescript';
import { PROJECT_ROOT, projectText } from '../helpers/files.js';
import { listDocuments } from './document-list.js';

const { judgeTitle } = (await import(join(PROJECT_ROOT, 'tools/test/commit-titles.mjs'))) as {
  judgeTitle: (title: string) => string | null;
};

const MAX_FILES_OF_A_FOLDER = 15;
const MAX_LINES = 500;

/** Folders that may hold more: one file for each row of a table. */
const WIDE_FOLDERS: readonly string[] = ['cli/commands'];

/** Files that may have more lines, and why each is one concept. */
const LONG_FILES: Readonly<Record<string, string>> = {
  'lib/proxy/proxy.ts': 'the public API of a process: what it can be asked, one member each, with their errors',
  'lib/session/session.ts': 'what each frame means, in one switch over the state that all of them change',
  'lib/services/sftp/files.ts':
    'the calls about files, with their options and answers, and how each is made of requests',
  'lib/session/session-loop.ts': 'the seven states of a link, in one switch, and what leads from one to another',
  'lib/session/stream.ts': 'the two halves of a stream, whose states end each other',
  'lib/status/types.ts': 'written by the build',
};

/** The text of each module in the folders. */
const textsOf = (...folders: readonly string[]): ReadonlyMap<string, string> =>
  new Map(
    folders
      .flatMap((folder) =>
        readdirSync(join(PROJECT_ROOT, folder), { recursive: true, encoding: 'utf8' })
          .filter((name) => name.endsWith('.ts'))
          .map((name) => `${folder}/${name}`),
      )
      .map((file) => [file, projectText(file)]),
  );

const texts = textsOf('lib', 'cli');
const files = [...texts.keys()];

/** The files that a file imports, for values or types, statically or dynamically. */
function importsOf(file: string, text: string): string[] {
  return ts
    .preProcessFile(text)
    .importedFiles.map(({ fileName }) => fileName)
    .filter((name) => name.startsWith('.'))
    .map((name) => relative(PROJECT_ROOT, join(PROJECT_ROOT, dirname(file), name.replace(/\.js$/, '.ts'))));
}

/** Repeatedly removes files that import none of the others; the rest is in a cycle, or leads to one. */
function circlesIn(imports: ReadonlyMap<string, readonly string[]>): string[] {
  const left = new Map(imports);
  for (let before = Number.POSITIVE_INFINITY; left.size < before; ) {
    before = left.size;
    for (const [file, imported] of left) if (!imported.some((one) => left.has(one))) left.delete(file);
  }
  return [...left.keys()];
}

/** Groups the files by `keyOf`. */
function groupFiles(keyOf: (file: string) => string): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const file of files) groups.set(keyOf(file), [...(groups.get(keyOf(file)) ?? []), file]);
  return groups;
}

test('the imports of lib and cli, including types, have no cycles', (t) => {
  t.true(files.length > 300);
  t.deepEqual(circlesIn(new Map([...texts].map(([file, text]) => [file, importsOf(file, text)]))), []);
});

test('the file names in lib are unique', (t) => {
  const twins = [...groupFiles(basename)].map(([, same]) => same.filter((file) => file.startsWith('lib/')));
  const several = twins.filter((same) => same.length > 1);
  t.deepEqual(several, []);
});

test(`a folder has at most ${MAX_FILES_OF_A_FOLDER} files`, (t) => {
  const wide = [...groupFiles(dirname)].filter(([, inside]) => inside.length > MAX_FILES_OF_A_FOLDER);
  const folders = wide.map(([folder]) => folder);
  t.deepEqual(folders, WIDE_FOLDERS);
});

test(`a file with more than ${MAX_LINES} lines has a reason`, (t) => {
  const long = [...texts].filter(([, text]) => text.split('\n').length - 1 > MAX_LINES).map(([file]) => file);
  t.deepEqual(long.sort(), Object.keys(LONG_FILES).sort());
});

test('a module of spec with tests is a spec, or is imported by one', (t) => {
  const specs = textsOf('spec');
  const imported = new Set([...specs].flatMap(([file, text]) => importsOf(file, text)));
  const declaring = [...specs].filter(([, text]) => /^import test\b.* from 'ava';$/m.test(text)).map(([file]) => file);
  t.true(declaring.length > 100);
  const unused = declaring.filter((file) => !file.endsWith('.spec.ts') && !imported.has(file));
  t.deepEqual(unused, []);
});

test('the index of decisions lists each with its title, and with the decision that supersedes it', (t) => {
  const folder = join(PROJECT_ROOT, 'docs/decisions');
  const rows = readdirSync(folder)
    .filter((name) => name !== 'README.md')
    .sort()
    .map((name) => {
      const text = readFileSync(join(folder, name), 'utf8');
      const [, title = ''] = /^# \d+\. (.*)$/m.exec(text) ?? [];
      const [, by] = /^Superseded by (\[\d{4}\]\(.*?\))/m.exec(text) ?? [];
      return `| ${name.slice(0, 4)} | [${title}](${name}) | ${by === undefined ? 'in effect' : `superseded by ${by}`} |`;
    });
  const index = readFileSync(join(folder, 'README.md'), 'utf8');
  t.deepEqual(index.match(/^\| \d.*$/gm), rows);
});

for (const [title, problem] of [
  ['fix(guest): send RESET, not FIN, after a failed write', null],
  ['docs: address the reader', null],
  [
    'fix(guest): a reset that a write was told is no end in order',
    'states a fact; say what the commit does, in the imperative',
  ],
  ['fix(guest): sends RESET', 'states a fact; say what the commit does, in the imperative'],
  ['send RESET', 'not in the form "type(scope): what the commit does"'],
  [`docs: ${'x'.repeat(67)}`, 'too long: 73 characters (max 72)'],
] as const) {
  test(`the title of a commit: ${title}`, (t) => t.is(judgeTitle(title), problem));
}

/** The methods and functions of a text, each with its verb and what it returns. */
const DEFINITION =
  /^ *(?:(?:export|async|static|protected|override|function) )*#?(?<verb>[a-z]+)(?:[A-Z]\w*)?(?:<[^\n(]*>)?\([^\n;{]*\): (?<result>[^\n;{]+) \{$/gm;

/** Where a file uses a verb in another meaning than that in the table of docs/architecture.md, as far as names and types show it. */
function misusedVerbs(text: string): string[] {
  const found = [...text.matchAll(DEFINITION)].map(({ groups: { verb = '', result = '' } = {} }) => ({ verb, result }));
  const has = (verb: string): boolean => found.some((one) => one.verb === verb);
  const fruitless = found.filter(
    ({ verb, result }) => /^(?:take|judge)$/.test(verb) && /^(?:Promise<)?void\b/.test(result),
  );
  const lone = [['hold', 'release'] as const, ['cork', 'uncork'] as const].filter(
    ([one, other]) => has(one) && !has(other),
  );
  return [
    ...fruitless.map(({ verb }) => `${verb} returns nothing`),
    ...lone.map(([one, other]) => `${one} without ${other}`),
  ];
}

test('verbs keep their meaning', (t) => {
  t.deepEqual(
    misusedVerbs('  #takeRest(): void {\n  hold(one: A): void {\nexport function judge(a: B): Promise<void> {\n'),
    ['take returns nothing', 'judge returns nothing', 'hold without release'],
  );
  t.deepEqual(misusedVerbs('  take(): Buffer {\n  hold(): void {\n  release(): void {\n'), []);
  const misused = [...texts].flatMap(([file, text]) => misusedVerbs(text).map((problem) => `${file}: ${problem}`));
  t.deepEqual(misused, []);
});

/** What no native speaker writes, and what to write instead. */
const IDIOMS: Readonly<Record<string, RegExp>> = {
  'is not a …, or null for …': /(?<!\bthere )\b(?:is|are|was|were) none\b/gi,
  'no … exists, or not found': /(?<!\b(?:if|which|why) )\bthere (?:is|are|was|were) none\b/gi,
  'must, or the imperative': /\b(?:is|are) to be\b/gi,
  current: /\bof the moment\b/gi,
  'human-readable': /\bfor people\b/gi,
  again: /\banew\b/gi,
  'vproxy processes': /\bvproxys\b/gi,
  'about, or a few': /\bsome (?:hundreds?|tens?|tenths?|thousands?|\d[\d.,]*)\b/gi,
  'shows, says or reports whether': /\btells? whether\b/gi,
  'calls to, calls from, or the possessive': /(?<!\b(?:system|const) )\bcalls? of\b/gi,
  'see, or like': /\bas of `/gi,
  'use vproxy': /\btake vproxy\b/gi,
};

/** Those in documents only: code has its own `else`. */
const IDIOMS_OF_DOCUMENTS: Readonly<Record<string, RegExp>> = { otherwise: /[,;] else\b(?! if\b)/gi };

/** Each idiom in a file, with what to write instead. */
function idiomsIn(file: string, text: string): string[] {
  const idioms = { ...IDIOMS, ...(file.endsWith('.md') ? IDIOMS_OF_DOCUMENTS : {}) };
  // A comment continues on the next line.
  const read = text.replace(/\s*\n\s*(?:\*|\/\/)?\s*/g, ' ');
  return Object.entries(idioms).flatMap(([better, idiom]) =>
    [...read.matchAll(idiom)].map(
      ({ 0: found, index }) => `${file}: "${found}" (${better}): …${read.slice(Math.max(0, index - 30), index + 30)}…`,
    ),
  );
}

test('idioms are found, across the lines of a comment too, and what is English is not', (t) => {
  for (const [file, text] of [
    ['a.ts', '/** Null where a FIFO is\n   * none. */'],
    ['a.ts', '// several vproxys'],
    ['a.md', 'It takes some 35 ms.'],
    ['a.md', 'of some\nhundreds of VMs'],
    ['a.go', '// isOver tells\n// whether it is over.'],
    ['a.md', "the guest's calls of a utility"],
    ['a.ts', '/** As of `open`. */'],
    ['a.go', '"no TLS; take vproxy"'],
    ['a.md', 'the name, else the number'],
  ] as const) {
    t.is(idiomsIn(file, text).length, 1, text);
  }
  for (const text of [
    'some lines',
    'null if there is none',
    'system calls of a service',
    'call `of`',
    'or else it ends',
  ]) {
    t.deepEqual(idiomsIn('a.md', text), []);
  }
  t.deepEqual(idiomsIn('a.ts', 'if (a) b(); else for (const call of calls) c();'), []);
});

test('comments, messages and documents avoid idioms that are not English', (t) => {
  const guest = readdirSync(join(PROJECT_ROOT, 'guest')).filter((name) => name.endsWith('.go'));
  const others = ['CHANGELOG.md', 'SECURITY.md', 'guest/README.md', ...guest.map((name) => `guest/${name}`)];
  t.true(guest.length > 20);
  const found = [...files, ...listDocuments(), ...others].flatMap((file) =>
    idiomsIn(file, texts.get(file) ?? projectText(file)),
  );
  t.deepEqual(found, []);
});
