// vproxy.conf.5: keys and types come from the table of settings; the rest from docs/config.md and docs/cli.md.
import { STORAGE_SETTINGS } from '../../../dist/lib/settings/channel-settings.js';
import { EGRESS_SETTINGS, RULE_SETTINGS } from '../../../dist/lib/settings/service-rules.js';
import { FILE_CHANNEL_SETTINGS, FILE_SETTINGS } from '../../../dist/lib/settings/settings-table.js';
import { findSection, readDocument, splitOptions, tableRows } from '../document.mjs';
import { formatTagged, renderBlocks, renderInline } from '../render.mjs';
import { bold, escapeCode, escapeRoff, fill, italic, reference, unbroken } from '../roff.mjs';

const PAGE = 'vproxy.conf.5';

export const head = { name: 'vproxy.conf', section: 5, title: 'File Formats' };

/** Options whose name differs from their key. */
const OPTIONS = {
  keys: 'key',
  address: 'channel',
  socket: 'storage-socket',
  parallel: 'storage-parallel',
};

/** The sections that have the keys of tables by name. */
const RULES = [
  { title: 'Rules of services', settings: RULE_SETTINGS, prefix: 'services.*.' },
  { title: 'Rules of egresses', settings: EGRESS_SETTINGS, prefix: 'egress.*.' },
];

/** Introductions to the meaning of a key, by table. */
const RULE_INTRODUCTIONS = { 'services.*.': 'Effect: ', 'egress.*.': 'Meaning: ' };

export function format() {
  const document = readDocument('config.md');
  const [, { blocks }] = document;
  const tables = blocks.filter((block) => block[0].type === 'table_open');
  const example = blocks.find((block) => block[0].type === 'fence');
  const start = blocks.indexOf(example);
  const keys = blocks.indexOf(tables[0]);
  const rows = describeRows(tables[0]);
  const render = (some) => renderBlocks(some, PAGE);
  const list = (settings, prefix) => formatKeys(settings, prefix, rows, example[0].content);
  const rulesIn = (title, settings, prefix) => {
    const own = findSection(document, title).blocks;
    return [
      `.SH ${title.toUpperCase()}`,
      ...render(own.filter((block) => block[0].type !== 'table_open')),
      ...formatKeys(settings, prefix, ruleRows(own, prefix), ''),
    ];
  };
  return [
    ...[
      '.SH NAME',
      'vproxy.conf \\- configuration file of vproxy',
      '.SH SYNOPSIS',
      `${bold('vproxy')} ${bold('\\-\\-config')} ${italic('FILE')}`,
    ],
    ...['.SH DESCRIPTION', ...render(blocks.slice(0, start))],
    ...['.SH KEYS OF THE FILE', ...list(FILE_SETTINGS, '')],
    ...[
      '.SH KEYS OF A CHANNEL',
      '.PP',
      ...fill(`In ${bold('[channels.\\fILABEL\\fB]')}. They override the same keys of the file.`),
      ...list(FILE_CHANNEL_SETTINGS, 'channels.*.'),
    ],
    ...['.SS Keys of storage', ...list(STORAGE_SETTINGS, 'channels.*.storage.')],
    ...RULES.flatMap(({ title, settings, prefix }) => rulesIn(title, settings, prefix)),
    ...['.SH LABELS AND LIMITS', ...render(blocks.slice(keys + 1))],
    ...document
      .slice(2)
      .filter(({ title }) => !RULES.some((rules) => rules.title === title))
      .flatMap(({ title, blocks: own }) => [`.SH ${escapeRoff(title.toUpperCase())}`, ...render(own)]),
    ...[
      '.SH EXAMPLES',
      ...render([example]),
      '.SH SEE ALSO',
      `${['vproxy.1', 'vproxy-storage.1', 'vproxy-protocol.7'].map(reference).join(',\n')}`,
    ],
  ];
}

/** Formats each key of a table: its type, its meaning, and its default. */
function formatKeys(settings, prefix, rows, example) {
  return settings.flatMap(({ key, type }) => {
    const row = rows.get(`${prefix}${key}`) ?? rows.get(key);
    const option = describeOption(key);
    const spoken = option === null ? describeComment(key, example) : option;
    const fallback = row?.default ?? '';
    const introduction = RULE_INTRODUCTIONS[prefix];
    const isRule = introduction !== undefined;
    const last = fallback === '' ? '' : `${introduction ?? 'Default: '}${fallback}.`;
    const expected = unbroken(escapeCode(type.expected));
    if (prefix !== '' && FILE_SETTINGS.some((row) => row.key === key) && !isRule) {
      return formatTagged(
        `${bold(escapeCode(key))} = ${expected}`,
        fill('As above, for this channel. Default: the key of the file.'),
      );
    }
    const told = spoken.includes('Default: ') ? '' : last;
    const lines = [...(spoken === '' ? [] : fill(spoken)), ...(told === '' ? [] : fill(told))];
    return formatTagged(`${bold(escapeCode(key))} = ${expected}`, lines);
  });
}

/** Returns the first paragraph of docs/cli.md about the option of a key. */
function describeOption(key) {
  const sections = readDocument('cli.md');
  const end = sections.findIndex(({ title }) => title.startsWith('vproxy '));
  const options = sections.slice(0, end).flatMap(({ blocks }) => splitOptions(blocks).options);
  const name = `--${OPTIONS[key] ?? key}`;
  const found = options.find(({ spellings }) => spellings.split(', ').includes(name));
  if (found === undefined) return null;
  const [first] = found.blocks;
  const text = renderInline(first[1], PAGE);
  const as = `As ${bold(unbroken(escapeCode(name)))} of ${reference('vproxy.1')}`;
  // A sentence that introduces a list is useless without it.
  if (/(?::|\bone of)$/.test(text)) return `${as}.`;
  return `${as}: ${text.replace(/^[A-Z](?=[a-z]* )/, (letter) => letter.toLowerCase())}`;
}

/** Returns the comment after a key in the example. */
function describeComment(key, example) {
  const comment = new RegExp(`^${key} = .*?# (.*)$`, 'm').exec(example)?.[1] ?? '';
  return /-/.test(comment) ? `On the command line: ${escapeCode(comment)}.` : '';
}

/** Returns the defaults in the table of keys, by key. */
function describeRows(table) {
  const rows = new Map();
  for (const [keys, , fallback] of tableRows(table).slice(1)) {
    const names = keys.children.filter(({ type }) => type === 'code_inline').map(({ content }) => content);
    const text = renderInline(fallback, PAGE);
    for (const name of names) {
      const full = name.startsWith('.') ? `channels.*${name}` : name;
      if (!/^as above$/.test(text)) rows.set(full, { default: text });
    }
  }
  return rows;
}

/** Returns the effect of each rule, by key. */
function ruleRows(blocks, prefix) {
  const table = blocks.find((block) => block[0].type === 'table_open');
  return new Map(
    tableRows(table)
      .slice(1)
      .map(([key, , text]) => [`${prefix}${key.content.replaceAll('`', '')}`, { default: renderInline(text, PAGE) }]),
  );
}
