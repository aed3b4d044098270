/** The manual pages: they cover the whole program, and the tools that display pages accept them. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type NamedOption, optionsOf } from '../../cli/command/command.js';
import { loadCommands, MAIN_COMMAND, NAMED_COMMANDS } from '../../cli/command/table.js';
import { CHANNEL_KINDS } from '../../lib/channel/kinds.js';
import { ERROR_CODES } from '../../lib/errors.js';
import { STORAGE_SETTINGS } from '../../lib/settings/channel-settings.js';
import { EGRESS_SETTINGS, RULE_SETTINGS } from '../../lib/settings/service-rules.js';
import { FILE_CHANNEL_SETTINGS, FILE_SETTINGS } from '../../lib/settings/settings-table.js';
import { PROJECT_ROOT, projectText, temporaryFolder } from '../helpers/files.js';
import { testWith } from '../helpers/test-with.js';

interface Page {
  readonly file: string;
  readonly section: number;
  readonly text: string;
}

const commandPage = (name: string): string => `vproxy-${name.replaceAll(' ', '-')}.1`;
const COMMAND_PAGES = Object.keys(NAMED_COMMANDS).map(commandPage);
const PAGES = ['vproxy.1', ...COMMAND_PAGES, 'vproxy-ssh.1', 'vproxy-storage.1', 'vproxy.conf.5', 'vproxy-protocol.7'];

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

test('a build makes the pages, and lists them in package.json', (t) => {
  t.deepEqual(readdirSync(join(PROJECT_ROOT, 'dist/man')).sort(), [...PAGES].sort());
  const { man } = JSON.parse(projectText('package.json')) as { man: string[] };
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

/** The tag of an option, as a page shows it. */
function tagOf({ spellings, takes }: NamedOption): string {
  const called = takes === null ? '' : takes.isOptional ? `[=${takes.called}]` : ` ${takes.called}`;
  return `\n.TP\n${spellings.join(', ')}${called}\n`;
}

test('vproxy.1 has every option, and refers to the page of every command', async (t) => {
  const text = plainPage('vproxy.1');
  for (const option of optionsOf(await MAIN_COMMAND.load())) t.true(text.includes(tagOf(option)), option.name);
  for (const [name, { summary }] of Object.entries(NAMED_COMMANDS))
    t.true(text.includes(`\n.TP\n${commandPage(name).replace('.1', '(1)')}\n${summary}.\n`), name);
});

test('the page of each command has its usage, its line in the list, and its own options', async (t) => {
  const [, ...commands] = await loadCommands();
  for (const command of commands) {
    const { name, usage, summary, options } = command;
    const page = commandPage(name);
    const text = plainPage(page);
    t.true(text.includes(`\n.SH SYNOPSIS\nvproxy ${usage}\n`), page);
    t.true(
      text.includes(`\n.SH NAME\n${page.slice(0, -2)} - ${summary.slice(0, 1).toLowerCase()}${summary.slice(1)}\n`),
      page,
    );
    for (const option of optionsOf(command))
      if (option.name in options && option.isHidden !== true && (command.isLocal === true || option.name !== 'json'))
        t.true(text.includes(tagOf(option)), `${page} ${option.name}`);
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
  const source = projectText('cli/storage-wrapper.ts');
  for (const [name] of source.matchAll(/VPROXY_STORAGE_[A-Z]+/g)) t.true(text.includes(`\n.TP\n${name}\n`), name);
  for (const [, status = ''] of source.matchAll(/\b(12\d)\b/g)) t.true(text.includes(`\n.TP\n${status}\n`), status);
});

test('vproxy-protocol.7 has every rule of docs/protocol.md', (t) => {
  const text = formatted.find(({ file }) => file === 'vproxy-protocol.7')?.text.replaceAll('\\-', '-') ?? '';
  const rules = [...projectText('docs/protocol.md').matchAll(/^\*\*(R-[A-Z]+-\d+\.)\*\*/gm)].map(
    ([, rule = '']) => rule,
  );
  t.true(rules.length > 50);
  const shown = [...text.matchAll(/^\\fB(R-[A-Z]+-\d+\.)\\fR/gm)].map(([, rule]) => rule);
  t.deepEqual(shown, rules);
});

testWith('mandoc')('mandoc reports no errors', (t) => {
  const folder = writePages(t);
  const { stdout, stderr } = spawnSync('mandoc', ['-T', 'lint', '-W', 'warning', ...PAGES], {
    ...{ cwd: folder, encoding: 'utf8' },
  });
  t.is(`${stdout}${stderr}`, '');
});

testWith('groff')('groff and man print no warnings, and no line is wider than a terminal', (t) => {
  const folder = writePages(t);
  const groff = spawnSync('groff', ['-ww', '-rcR=1', '-rLL=78n', '-P-c', '-t', '-man', '-Tutf8', ...PAGES], {
    ...{ cwd: folder, encoding: 'utf8' },
  });
  t.deepEqual([groff.status, groff.stderr], [0, '']);
  const lines = execFileSync('col', ['-bx'], { encoding: 'utf8', input: groff.stdout }).split('\n');
  const long = lines.filter((line) => line.length > 80);
  t.deepEqual(long, []);
  t.is(lines.filter((line) => line === 'NAME').length, PAGES.length);
  // man runs groff for each page, after the programs that the first line of a page asks for: none does.
  for (const { text } of formatted) t.regex(text, /^\.TH /);
  const env = { ...process.env, MANWIDTH: '80', LC_ALL: 'C.UTF-8', MANPAGER: 'cat' };
  const files = ['vproxy.1', 'vproxy.conf.5', 'vproxy-protocol.7'].map((page) => join(folder, page));
  const man = spawnSync('man', ['--warnings', '--local-file', ...files], { encoding: 'utf8', env });
  t.deepEqual([man.status, man.stderr], [0, '']);
  t.is(man.stdout.match(/^NAME$/gm)?.length, files.length);
});
