/** The documents compared with the code: options, codes, log lines and links. Their command lines are run in spec/documents. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { optionsOf } from '../../cli/command/command.js';
import { CONTROL_COMMANDS, LOCAL_COMMANDS, loadCommands, NAMED_COMMANDS } from '../../cli/command/table.js';
import { QEMU_WORD } from '../../lib/channel/address/qemu.js';
import { CHANNEL_KINDS } from '../../lib/channel/kinds.js';
import { ERROR_MEANINGS } from '../../lib/error-meanings.js';
import { ERROR_CODES, type ErrorCode } from '../../lib/errors.js';
import { LOG_EVENT_NAMES, LOG_EVENTS } from '../../lib/events.js';
import { REMEDIES } from '../../lib/remedies.js';
import { listDocuments } from '../documents/document-list.js';
import { PROJECT_ROOT, projectText } from '../helpers/files.js';

/** Each option as in the table: `-c, --channel CHANNEL`. */
const optionsInTable = (command: Parameters<typeof optionsOf>[0]): string[] =>
  optionsOf(command)
    .filter(({ isHidden }) => isHidden !== true)
    .map(({ spellings, takes }) => {
      const value = takes?.isOptional === true ? `[=${takes.called}]` : (takes?.called ?? '');
      return `${spellings.join(', ')} ${value}`.trim();
    });

/** The same for each item of a list that defines an option. */
const optionsInText = (text: string): string[] =>
  [...text.matchAll(/^- \*\*`(-[^`]*)` ?([^*]*)\*\*: /gm)].map(([, first = '', called = '']) =>
    `${first} ${called}`.trim(),
  );

/** Guides that describe commands. */
const GUIDES = ['exec.md', 'copy.md', 'info.md', 'doctor.md'];
const anchorOf = (name: string): string => `#vproxy-${name.replaceAll(' ', '-')}`;

/** Commands whose sections only name some options, as those of another command define them. */
const OPTIONS_OF_OTHERS = ['channel add', 'shell', 'qemu-args'];

/** The document of each command, as a link from docs/commands.md, and its section: from its heading to the next. */
const commandSections = new Map(
  ['', ...GUIDES].flatMap((file) =>
    [
      ...projectText(`docs/${file === '' ? 'commands.md' : file}`).matchAll(
        /^## vproxy ([a-z -]+)\n(.*?)(?=^## |$(?![^]))/gms,
      ),
    ].map(([, name = '', text = '']) => [name, { file, text }] as const),
  ),
);

test('docs/commands.md lists the commands of the tables, and no others, with their sections', (t) => {
  const rows = [...projectText('docs/commands.md').matchAll(/^\| \[`vproxy ([a-z -]+)`\]\((.*)\) \| (.*) \|$/gm)];
  t.deepEqual(
    rows.map(([, ...cells]) => cells),
    Object.entries({ ...CONTROL_COMMANDS, ...LOCAL_COMMANDS }).map(([name, { summary }]) => [
      name,
      `${commandSections.get(name)?.file ?? 'no section'}${anchorOf(name)}`,
      summary,
    ]),
  );
  t.deepEqual([...commandSections.keys()].sort(), Object.keys(NAMED_COMMANDS).sort());
});

/** What the lists have in common, with a table of them. */
const [, LISTS = ''] = /^### Lists\n(.*?)^### /ms.exec(projectText('docs/commands.md')) ?? [];

test('the table of lists in docs/commands.md has each of them', async (t) => {
  const rows = [...LISTS.matchAll(/^\| (\[`[^|]*) \|/gm)];
  const named = rows.flatMap(([, cell = '']) => [...cell.matchAll(/`([a-z -]+)`/g)].map(([, name]) => name));
  const lists = (await loadCommands()).filter(({ options }) => 'watch' in options);
  t.deepEqual(named.sort(), lists.map(({ name }) => name).sort());
});

test('the documents define the options and usages of the tables, and no others', async (t) => {
  const shared = ['--channel LABEL', ...optionsInText(LISTS.replaceAll('`, `', ', '))];
  for (const command of await loadCommands()) {
    const { name, usage } = command;
    const text = name === '' ? projectText('docs/cli.md') : (commandSections.get(name)?.text ?? '');
    // docs/commands.md has a table of the options that all commands for a running process have.
    const common = name === '' ? [] : name in LOCAL_COMMANDS ? ['-h'] : ['-h', '--socket', '--name', '--json'];
    const expected = optionsInTable(command).filter((option) => !common.includes(option.replace(/[, ].*/, '')));
    const defined = optionsInText(text.replaceAll('`, `', ', '));
    const names = (option: string) => OPTIONS_OF_OTHERS.includes(name) && isNamed(option, text);
    const others = expected.filter(
      (option) => name !== '' && !defined.includes(option) && (shared.includes(option) || names(option)),
    );
    t.deepEqual([...defined, ...others].sort(), expected.sort(), name);
    const usages = [`\n\`vproxy ${usage}\`\n`, `\n\`\`\`text\nvproxy ${usage}\n\`\`\`\n`];
    const isFirst = usages.some((form) => text.startsWith(form));
    t.true(name === '' || isFirst, name);
  }
});

/** Whether a text has one of the spellings of an option, as code. */
const isNamed = (option: string, text: string): boolean =>
  [...option.matchAll(/(?<!\S)-[\w-]+/g)].some(([spelling]) => text.includes(`\`${spelling}\``));

test('docs/cli.md has every kind of channel, and no other', (t) => {
  const rows = projectText('docs/cli.md').matchAll(/^\| `([a-z]+(?:-[a-z]+)*):/gm);
  const kinds = [...rows].map(([, kind]) => kind);
  t.deepEqual(kinds, [...CHANNEL_KINDS.keys(), QEMU_WORD]);
});

test('docs/errors.md has the current table of codes', (t) => {
  const [, section = ''] = /^## Codes\n(.*?)^## /ms.exec(projectText('docs/errors.md')) ?? [];
  const rows = [...section.matchAll(/^\| `([a-z-]+)` \| (.*) \|$/gm)];
  const word = (isSo: boolean) => (isSo ? 'yes' : 'no');
  t.deepEqual(
    rows.map(([, code, row]) => [code, row]),
    Object.entries(ERROR_CODES).map(([code, { scope, wire, retry, exit }]) => [
      code,
      [scope, word(wire), word(retry), exit, ERROR_MEANINGS[code as ErrorCode]].join(' | '),
    ]),
  );
});

test('docs/errors.md has each remedy, by what failed and its code', (t) => {
  const [, section = ''] = /^## Remedies\n(.*?)^## /ms.exec(projectText('docs/errors.md')) ?? [];
  const rows = [...section.matchAll(/^\| ([a-z ]+) \| `([a-z-]+)` \| (?:[^|]*\. )?\| ([^|]*) \|$/gm)];
  t.deepEqual(
    rows.map(([, subject, code, remedy]) => [subject, code, remedy]),
    Object.entries(REMEDIES).flatMap(([subject, table]) =>
      Object.entries(table).map(([code, remedy]) => [subject.replaceAll('-', ' '), code, remedy]),
    ),
  );
});

test('docs/errors.md explains every exit status', (t) => {
  const documented = [...projectText('docs/errors.md').matchAll(/^\| (\d+) \|/gm)].map(([, status]) => Number(status));
  for (const { exit } of Object.values(ERROR_CODES)) t.true(documented.includes(exit), String(exit));
});

for (const document of listDocuments()) {
  test(`the links of ${document} lead to existing files`, (t) => {
    const folder = join(PROJECT_ROOT, document, '..');
    for (const [, target = ''] of projectText(document).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)) {
      t.notThrows(() => readFileOrFolder(join(folder, target)), `${document}: ${target}`);
    }
    t.pass();
  });
}

function readFileOrFolder(path: string): void {
  if (path.endsWith('/')) readdirSync(path);
  else readFileSync(path);
}

test('docs/errors.md explains each event once, and no other, with its level and whether it is audited', (t) => {
  const [, section = ''] = projectText('docs/errors.md').split('\n## Events\n');
  const rows = [...section.matchAll(/^\| (`[^|]*`) \| ([^|]*) \| (yes )?\|/gm)].flatMap(
    ([, first = '', levels = '', yes]) => {
      const names = first.split(', ').map((name) => name.replaceAll('`', ''));
      const each = levels.split(', ');
      return names.map((name, index) => [name, each.length === 1 ? levels : each[index], yes !== undefined] as const);
    },
  );
  const expected = LOG_EVENT_NAMES.map((name) => {
    const { level, isAudited } = LOG_EVENTS[name];
    return [name, [level].flat().join(' or '), isAudited] as const;
  });
  const wanted = Object.fromEntries(expected.map(([name, ...rest]) => [name, rest]));
  t.deepEqual(Object.fromEntries(rows.map(([name, ...rest]) => [name, rest])), wanted);
  t.is(rows.length, expected.length);
});

test('vproxy-guest logs events of the table, at their levels', (t) => {
  const rows = new Set(LOG_EVENT_NAMES.flatMap((name) => [LOG_EVENTS[name].level].flat().map((it) => `${it} ${name}`)));
  const calls = readdirSync(join(PROJECT_ROOT, 'guest')).flatMap((file) =>
    /(?<!_test)\.go$/.test(file)
      ? [...projectText(`guest/${file}`).matchAll(/\blogLine\(log(\w+), "([^"]*)"|\.tell\("([^"]*)"/g)]
      : [],
  );
  t.true(calls.length > 30);
  const logged = calls.map(([, level = 'info', event, told]) => `${level.toLowerCase()} ${event ?? told}`);
  t.deepEqual(
    logged.filter((row) => !rows.has(row)),
    [],
  );
});
