/** The documents compared with the code: options, codes, log lines and links. Their command lines are run in spec/documents. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { optionsOf } from '../../cli/command/command.js';
import { CONTROL_COMMANDS, LOCAL_COMMANDS, loadCommands, NAMED_COMMANDS } from '../../cli/command/table.js';
import { QEMU_WORD } from '../../lib/channel/address/qemu.js';
import { CHANNEL_KINDS } from '../../lib/channel/kinds.js';
import { ERROR_CODES } from '../../lib/errors.js';
import { LOG_EVENT_NAMES, LOG_EVENTS } from '../../lib/events.js';
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

/** The same for each paragraph of a document that defines an option. */
const optionsInText = (text: string): string[] =>
  [...text.matchAll(/^\*\*`(-[^`]*)` ?([^*]*)\*\*$/gm)].map(([, first = '', called = '']) =>
    `${first} ${called}`.trim(),
  );

test('docs/cli.md lists the commands of the tables, and no others', (t) => {
  const rows = [
    ...projectText('docs/cli.md').matchAll(/^\| \[`vproxy ([a-z -]+)`\]\(commands\/([a-z-]+)\.md\) \| (.*) \|$/gm),
  ];
  t.deepEqual(
    rows.map(([, ...cells]) => cells),
    Object.entries(NAMED_COMMANDS).map(([name, { summary }]) => [name, name.replaceAll(' ', '-'), summary]),
  );
});

test('docs/cli.md and docs/commands/ define the options and usages of the tables, and no others', async (t) => {
  const pages = readdirSync(join(PROJECT_ROOT, 'docs/commands'));
  const names = Object.keys(NAMED_COMMANDS).map((name) => `${name.replaceAll(' ', '-')}.md`);
  t.deepEqual(pages.sort(), names.sort());
  for (const command of await loadCommands()) {
    const { name, usage } = command;
    const page = name === '' ? 'docs/cli.md' : `docs/commands/${name.replaceAll(' ', '-')}.md`;
    const text = projectText(page).replaceAll('`, `', ', ');
    // docs/cli.md has a table of the options that all commands for a running process have.
    const common = name === '' ? [] : name in LOCAL_COMMANDS ? ['-h'] : ['-h', '--socket', '--name', '--json'];
    const expected = optionsInTable(command).filter((option) => !common.includes(option.replace(/[, ].*/, '')));
    t.deepEqual(optionsInText(text).sort(), expected.sort(), page);
    if (name === '') continue;
    t.true(text.startsWith(`# vproxy ${name}\n\n\`\`\`text\nvproxy ${usage}\n\`\`\`\n`), page);
    t.is(text.includes('](../cli.md#commands-for-a-running-vproxy).\n'), name in CONTROL_COMMANDS, page);
  }
});

test('docs/cli.md has every kind of channel, and no other', (t) => {
  const rows = projectText('docs/cli.md').matchAll(/^\| `([a-z]+(?:-[a-z]+)*):/gm);
  const kinds = [...rows].map(([, kind]) => kind);
  t.deepEqual(kinds, [...CHANNEL_KINDS.keys(), QEMU_WORD]);
});

test('docs/errors.md has the current table of codes', (t) => {
  const rows = [...projectText('docs/errors.md').matchAll(/^\| `([a-z-]+)` \| (.*) \|$/gm)];
  const word = (isSo: boolean) => (isSo ? 'yes' : 'no');
  t.deepEqual(
    rows.map(([, code, row]) => [code, row]),
    Object.entries(ERROR_CODES).map(([code, { scope, wire, retry, exit, meaning }]) => [
      code,
      [scope, word(wire), word(retry), exit, meaning].join(' | '),
    ]),
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

test('docs/troubleshooting.md explains each event once, and no other, with its level and whether it is audited', (t) => {
  const [, section = ''] = /^## Lines of the log\n(.*?)^## /ms.exec(projectText('docs/troubleshooting.md')) ?? [];
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
