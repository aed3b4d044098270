/** The documents compared with the code: options, codes and links. Their command lines are run in spec/documents. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { optionsOf } from '../../cli/command/command.js';
import { CONTROL_COMMANDS, LOCAL_COMMANDS, loadCommands } from '../../cli/command/table.js';
import { QEMU_WORD } from '../../lib/channel/address/qemu.js';
import { CHANNEL_KINDS } from '../../lib/channel/kinds.js';
import { ERROR_CODES } from '../../lib/errors.js';
import { PROJECT_ROOT } from '../helpers/files.js';
import { runVproxy } from '../helpers/vproxy-process.js';

const read = (path: string): string => readFileSync(join(PROJECT_ROOT, path), 'utf8');

/** `-c, --channel` for each option in the output of --help. */
async function optionsInHelp(...command: string[]): Promise<string[]> {
  const { stdout } = await runVproxy([...command, '--help']);
  return [...stdout.matchAll(/^ +(-\w, )?(--[\w-]+)(?=[ [\n])/gm)]
    .map(([, short = '', long = '']) => short + long)
    .sort();
}

/** The same for each paragraph of a document that defines an option. */
function optionsInText(text: string): string[] {
  const definitions = [...text.matchAll(/^\*\*`(-[^`]*)`[^*]*\*\*$/gm)].map(([, first = '']) => first);
  return definitions.map((definition) => definition.replace('`', '')).sort();
}

/** The document up to the sections of the commands, and each of those. */
const commandSections = (): string[] =>
  read('docs/cli.md')
    .replaceAll('`, `', ', ')
    .split(/^## vproxy /m);

test.serial('docs/cli.md defines every option of the command that runs a proxy, and no other', async (t) => {
  t.deepEqual(optionsInText(commandSections()[0] ?? ''), await optionsInHelp());
});

test('docs/cli.md calls the values of options as the tables do', async (t) => {
  const sections = new Map(commandSections().map((text, index) => [index === 0 ? '' : nameOf(text), text]));
  for (const command of await loadCommands()) {
    const { name } = command;
    const text = sections.get(name) ?? '';
    for (const [, first = '', called = ''] of text.matchAll(/^\*\*`(-[^`]*)` ?([^*]*)\*\*$/gm)) {
      const option = optionsOf(command).find(({ spellings }) => spellings.join(', ') === first);
      const value = option?.takes ?? null;
      t.is(called, value === null ? '' : value.isOptional ? `[=${value.called}]` : value.called, `${name} ${first}`);
    }
  }
});

test.serial('docs/cli.md defines every option of each other command, and no other', async (t) => {
  const [, ...commands] = commandSections();
  const others = Object.keys(LOCAL_COMMANDS);
  t.deepEqual(commands.map(nameOf), [...others, ...Object.keys(CONTROL_COMMANDS)]);
  for (const text of commands) {
    const name = nameOf(text);
    const common = others.includes(name)
      ? ['-h, --help']
      : // These are in a table, as they are the same everywhere.
        ['--socket', '--name', '--json', '-h, --help'];
    const found = (await optionsInHelp(...name.split(' '))).filter((option) => !common.includes(option));
    t.deepEqual(optionsInText(text), found, name);
  }
});

/** The command that a section of the document is about. */
const nameOf = (text: string): string => /^.*/.exec(text)?.[0] ?? '';

test('docs/cli.md has every kind of channel, and no other', (t) => {
  const rows = read('docs/cli.md').matchAll(/^\| `([a-z]+(?:-[a-z]+)*):/gm);
  t.deepEqual(
    [...rows].map(([, kind]) => kind),
    [...CHANNEL_KINDS.keys(), QEMU_WORD],
  );
});

test('docs/errors.md has the table of codes as it is', (t) => {
  const rows = [...read('docs/errors.md').matchAll(/^\| `([a-z-]+)` \| (.*) \|$/gm)];
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
  const documented = [...read('docs/errors.md').matchAll(/^\| (\d+) \|/gm)].map(([, status]) => Number(status));
  for (const { exit } of Object.values(ERROR_CODES)) t.true(documented.includes(exit), String(exit));
});

for (const document of ['README.md', ...readdirSync(join(PROJECT_ROOT, 'docs')).map((name) => `docs/${name}`)]) {
  if (!document.endsWith('.md')) continue;
  test(`what ${document} links to is there`, (t) => {
    const folder = join(PROJECT_ROOT, document, '..');
    for (const [, target = ''] of read(document).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)) {
      t.notThrows(() => readFileOrFolder(join(folder, target)), `${document}: ${target}`);
    }
    t.pass();
  });
}

function readFileOrFolder(path: string): void {
  if (path.endsWith('/')) readdirSync(path);
  else readFileSync(path);
}
