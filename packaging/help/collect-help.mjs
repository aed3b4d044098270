// What `vproxy --help` and the help of each command say, taken apart: the manual and the completion are made of nothing else.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { CONTROL_COMMANDS, LOCAL_COMMANDS } from '../../dist/cli/control/command-table.js';
import { formatHelp } from '../../dist/cli/control/help.js';

const CLI = join(import.meta.dirname, '../../dist/cli/vproxy.js');
// Wide enough that no row is broken in two by yargs; the commands of our own break at 100.
const COLUMNS = 100;

/** The help of a command, as `vproxy NAME --help` prints it. */
async function readHelp(name) {
  const entry = CONTROL_COMMANDS[name] ?? LOCAL_COMMANDS[name];
  // A process for each would take its time.
  const text = entry === undefined ? runHelp(name) : formatHelp(await entry.load());
  return text.replace(/\n+Manual: .*\n*$/, '').trimEnd();
}

function runHelp(name) {
  const words = name === '' ? [] : name.split(' ');
  const env = { ...process.env, COLUMNS: String(COLUMNS) };
  return execFileSync(process.execPath, [CLI, ...words, '--help'], { encoding: 'utf8', env });
}

/** The rows below a heading: what stands on the left, and on the right in however many lines. */
function parseRows(lines) {
  const rows = [];
  for (const line of lines) {
    const found = /^ {2}( {0,4}\S.*?)(?: {2,}(\S.*))?$/.exec(line);
    if (found !== null && line.search(/\S/) <= 6) rows.push({ left: found[1].trim(), right: found[2] ?? '' });
    else if (rows.length > 0) rows.at(-1).right += ` ${line.trim()}`;
  }
  return rows.map(({ left, right }) => ({ left, ...parseDescription(right) }));
}

/** yargs says of each option of which type it is. */
function parseDescription(right) {
  const text = right.replace(/\s*(?:\[(?:string|boolean|count|array|required)\]\s*)+/g, ' ').trim();
  return { text, hasType: /\[(?:string|array)\]/.test(right) };
}

/** `-c, --count COUNT` */
function parseOption({ left, text, hasType }) {
  const [, short = null, long, value = ''] = /^(?:(-\w), )?(--[\w-]+)(?: (\S+))?$/.exec(left) ?? [];
  return long === undefined ? null : { short, long, value, takesValue: value !== '' || hasType, text };
}

/** A help as paragraphs and groups: `{ title, rows }`, with `options` where its rows are some. */
export function parseHelp(text) {
  const sections = [];
  for (const block of text.split(/\n{2,}/)) {
    const [first, ...rest] = block.split('\n');
    if (rest.length === 0 || !/^\S.*:$/.test(first)) {
      sections.push({ paragraph: block.split('\n') });
      continue;
    }
    const rows = parseRows(rest);
    const options = rows.map(parseOption);
    sections.push(options.every((one) => one !== null) ? { title: first, options } : { title: first, rows });
  }
  return sections;
}

/** Everything: the help of the program, and each command with its `name`, its `summary` and its help. */
export function collectHelp() {
  collected ??= collect();
  return collected;
}

let collected;

async function collect() {
  const sections = parseHelp(await readHelp(''));
  const listed = sections.flatMap(({ title = '', rows = [] }) => (/commands?\b/i.test(title) ? rows : []));
  const commands = [];
  for (const { left, text: summary } of listed) {
    const name = left
      .replace(/^vproxy ?/, '')
      .replace(/ ?[<[].*$/, '')
      .trim();
    if (name !== '') commands.push({ name, summary, sections: parseHelp(await readHelp(name)) });
  }
  return { sections, commands };
}
