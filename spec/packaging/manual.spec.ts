/** The manual pages: they cover the whole program, and the tools that display pages accept them. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { optionsOf } from '../../cli/command/command.js';
import { loadCommands } from '../../cli/command/table.js';
import { CHANNEL_KINDS } from '../../lib/channel/kinds.js';
import { ERROR_CODES } from '../../lib/errors.js';
import { STORAGE_SETTINGS } from '../../lib/settings/channel-settings.js';
import { EGRESS_SETTINGS, RULE_SETTINGS } from '../../lib/settings/service-rules.js';
import { FILE_CHANNEL_SETTINGS, FILE_SETTINGS } from '../../lib/settings/settings-table.js';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { testWith } from '../helpers/test-with.js';

interface Page {
  readonly file: string;
  readonly section: number;
  readonly text: string;
}

const PAGES = ['vproxy.1', 'vproxy-storage.1', 'vproxy.conf.5', 'vproxy-protocol.7'];

const read = (path: string): string => readFileSync(join(PROJECT_ROOT, path), 'utf8');

async function formatPages(): Promise<readonly Page[]> {
  const path = join(PROJECT_ROOT, 'packaging/manual/format-manuals.mjs');
  const { formatManuals } = (await import(path)) as {
    formatManuals: (facts: { version: string; date: Date }) => Promise<Page[]>;
  };
  return formatManuals({ version: '1.2.3', date: new Date(1_700_000_000_000) });
}

const formatted = await formatPages();

/** A page as a reader sees it: without fonts, and with the characters that have names. */
function plainPage(file: string): string {
  const page = formatted.find((one) => one.file === file);
  return (page?.text ?? '')
    .replace(/\\f[BIR]|\\%|\\&/g, '')
    .replaceAll('\\-', '-')
    .replace(/\\\[u([0-9A-F]+)\]/g, (_all, code: string) => String.fromCodePoint(Number.parseInt(code, 16)))
    .replaceAll('\\(aq', "'")
    .replaceAll('\\e', '\\');
}

/** The folder with all pages. */
function writePages(t: ExecutionContext): string {
  const folder = temporaryFolder(t);
  for (const { file, text } of formatted) writeFileSync(join(folder, file), text);
  return folder;
}

test('a build makes the four pages, and package.json names each', (t) => {
  t.deepEqual(readdirSync(join(PROJECT_ROOT, 'dist/man')).sort(), [...PAGES].sort());
  const { man } = JSON.parse(read('package.json')) as { man: string[] };
  t.is(man.join(), PAGES.map((page) => `./dist/man/${page}`).join());
});

test('each has its name, section, version and the given date, and is reproducible', async (t) => {
  t.is(formatted.map(({ file }) => file).join(), PAGES.join());
  for (const { file, section, text } of formatted) {
    const [, name, day, version] =
      new RegExp(`^\\.TH "(\\S+)" ${section} (\\S+) "vproxy (\\S+)"`, 'm').exec(text) ?? [];
    t.is(`${name?.replaceAll('\\-', '-').toLowerCase() ?? ''}.${section}`, file);
    t.deepEqual([day, version], ['2023-11-14', '1.2.3']);
    t.regex(text, /^\.SH NAME\n\S+ \\- [^\n]+\n/m);
    t.notRegex(text, /[^\n\t\x20-\x7e]/, 'it is ASCII');
  }
  t.deepEqual(await formatPages(), formatted);
});

test('vproxy.1 has every command with its usage, and every option', async (t) => {
  const text = plainPage('vproxy.1');
  const sections = new Map(
    text.split(/^\.SS vproxy /m).map((part, index) => [index === 0 ? '' : (/^.*/.exec(part)?.[0] ?? ''), part]),
  );
  const common = ['--socket', '--name', '--json', '--help'];
  for (const command of await loadCommands()) {
    const { name } = command;
    const section = sections.get(name);
    t.truthy(section, name);
    for (const { spellings, takes } of optionsOf(command)) {
      if (name !== '' && common.includes(spellings.at(-1) ?? '') && !(name === 'completion')) continue;
      const called = takes === null ? '' : takes.isOptional ? `[=${takes.called}]` : ` ${takes.called}`;
      const known = name === 'completion' && spellings.includes('--help');
      if (!known) t.true(section?.includes(`\n.TP\n${spellings.join(', ')}${called}\n`), `${name} ${spellings.join()}`);
    }
    if (name !== '') t.true(section?.includes(`\nvproxy ${command.usage}\n`), name);
  }
});

test('vproxy.1 has every kind of channel, every code and every exit status', (t) => {
  const text = plainPage('vproxy.1');
  for (const kind of CHANNEL_KINDS.keys()) t.regex(text, new RegExp(`^\\.TP\n(?:.*, )?${kind}:`, 'm'), kind);
  const statuses = text.slice(text.indexOf('\n.SH EXIT STATUS'), text.indexOf('\n.SH EXAMPLES'));
  for (const [code, { exit }] of Object.entries(ERROR_CODES)) {
    t.regex(statuses, new RegExp(`^\\.TP\n${exit}\n[^.]*\\b${code}\\b`, 'm'), code);
  }
});

test('vproxy.conf.5 has every key of the tables, with its type', (t) => {
  const text = plainPage('vproxy.conf.5');
  const parts = text.split(/^\.S[HS] /m);
  for (const [title, settings] of [
    ['KEYS OF THE FILE', FILE_SETTINGS],
    ['KEYS OF A CHANNEL', FILE_CHANNEL_SETTINGS],
    ['Keys of storage', STORAGE_SETTINGS],
    ['RULES OF SERVICES', RULE_SETTINGS],
    ['RULES OF EGRESSES', EGRESS_SETTINGS],
  ] as const) {
    const part = parts.find((one) => one.startsWith(`${title}\n`)) ?? '';
    for (const { key } of settings) {
      // It is followed by the type that the program expects, and a line with more.
      t.regex(part, new RegExp(`^\\.TP\n${key} = (?!a value$).+$`, 'm'), `${title}: ${key}`);
    }
  }
  t.regex(
    text,
    /^wait = a whole number of seconds from 0 to 86400, or a time such as 500ms, 90s, 5m or 1h30m\nAs --wait of vproxy\(1\): how long/m,
  );
});

test('vproxy-storage.1 has the variables and the statuses of the wrapper', (t) => {
  const text = plainPage('vproxy-storage.1');
  const source = read('cli/storage-wrapper.ts');
  for (const [name] of source.matchAll(/VPROXY_STORAGE_[A-Z]+/g)) t.true(text.includes(`\n.TP\n${name}\n`), name);
  for (const [, status = ''] of source.matchAll(/\b(12\d)\b/g)) t.true(text.includes(`\n.TP\n${status}\n`), status);
});

test('vproxy-protocol.7 has every rule of docs/protocol.md', (t) => {
  const text = formatted.find(({ file }) => file === 'vproxy-protocol.7')?.text.replaceAll('\\-', '-') ?? '';
  const rules = [...read('docs/protocol.md').matchAll(/^\*\*(R-[A-Z]+-\d+\.)\*\*/gm)].map(([, rule = '']) => rule);
  t.true(rules.length > 50);
  t.deepEqual(
    [...text.matchAll(/^\\fB(R-[A-Z]+-\d+\.)\\fR/gm)].map(([, rule]) => rule),
    rules,
  );
});

testWith('mandoc')('mandoc reports no errors', (t) => {
  const folder = writePages(t);
  for (const page of PAGES) {
    const { stdout, stderr } = spawnSync('mandoc', ['-T', 'lint', '-W', 'warning', join(folder, page)], {
      encoding: 'utf8',
    });
    t.is(`${stdout}${stderr}`, '', page);
  }
});

testWith('groff')('groff and man print no warnings, and no line is wider than a terminal', (t) => {
  const folder = writePages(t);
  const env = { ...process.env, MANWIDTH: '80', LC_ALL: 'C.UTF-8', MANPAGER: 'cat', MAN_KEEP_FORMATTING: '' };
  for (const page of PAGES) {
    const file = join(folder, page);
    const groff = spawnSync('groff', ['-ww', '-rcR=1', '-t', '-man', '-Tutf8', file], { encoding: 'utf8' });
    t.deepEqual([groff.status, groff.stderr], [0, ''], page);
    const man = spawnSync('man', ['--warnings', '--local-file', file], { encoding: 'utf8', env });
    t.deepEqual([man.status, man.stderr], [0, ''], page);
    const wide = execFileSync('col', ['-bx'], { encoding: 'utf8', input: man.stdout })
      .split('\n')
      .filter((line) => line.length > 80);
    t.deepEqual(wide, [], page);
  }
});
