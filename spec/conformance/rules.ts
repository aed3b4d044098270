/** Every rule of docs/protocol.md is cited by a spec, and every rule that is cited exists; its stream states match the code. */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import { ERROR_CODES } from '../../lib/errors.js';
import { RECEIVING_STATES, SENDING_STATES, STREAM_STATES } from '../../lib/session/stream.js';

/** The numbers of all rules cited in a text; `R-X-2 to R-X-5` cites each of them. */
function citedRules(text: string): string[] {
  const rules = [...text.matchAll(/R-[A-Z]+-\d+/g)].map(([rule]) => rule);
  for (const [, name, from, to] of text.matchAll(/R-([A-Z]+)-(\d+) to R-\1-(\d+)/g)) {
    for (let number = Number(from); number <= Number(to); number += 1) rules.push(`R-${name}-${number}`);
  }
  return rules;
}

/** The sources in a folder, by path; the examples in this file are not citations. */
async function readSources(folder: string): Promise<Map<string, string>> {
  const names = await readdir(folder, { recursive: true });
  const sources = names.filter((name) => name.endsWith('.ts') && !name.endsWith('rules.ts'));
  const texts = await Promise.all(sources.map((name) => readFile(path.join(folder, name), 'utf8')));
  return new Map(sources.map((name, index) => [path.join(folder, name), texts[index] ?? '']));
}

/** The specs, and the cases that they share with the suite. */
const readCitations = async (): Promise<Map<string, string>> =>
  new Map([...(await readSources('spec')), ...(await readSources('conformance'))]);

async function readRules(): Promise<string[]> {
  const text = await readFile('docs/protocol.md', 'utf8');
  return [...text.matchAll(/^\*\*(R-[A-Z]+-\d+)\.\*\*/gm)].map(([, rule]) => rule ?? '');
}

test('the rules are numbered without gaps, each once', async (t) => {
  const rules = await readRules();
  t.true(rules.length > 50);
  t.is(new Set(rules).size, rules.length);
  for (const rule of rules) {
    const [, name, number] = /^R-([A-Z]+)-(\d+)$/.exec(rule) as unknown as [string, string, string];
    if (number !== '1') t.true(rules.includes(`R-${name}-${Number(number) - 1}`), rule);
  }
});

test('every rule that the document, the code or a spec cites exists', async (t) => {
  const rules = new Set(await readRules());
  const texts = new Map([...(await readSources('lib')), ...(await readCitations())]);
  texts.set('docs/protocol.md', await readFile('docs/protocol.md', 'utf8'));
  for (const [file, text] of texts) {
    const unknown = citedRules(text).filter((rule) => !rules.has(rule));
    t.deepEqual(unknown, [], file);
  }
});

test('every rule is cited by a spec', async (t) => {
  const cited = new Set([...(await readCitations())].flatMap(([, text]) => citedRules(text)));
  const missing = (await readRules()).filter((rule) => !cited.has(rule));
  t.deepEqual(missing, []);
});

test('R-CODE-1: the table has exactly the codes that may go on the wire', async (t) => {
  const text = await readFile('docs/protocol.md', 'utf8');
  const table = /\*\*R-CODE-1\.\*\*[^]*?(?=\*\*R-CODE-2)/.exec(text)?.[0] ?? '';
  const rows = table.split('\n').filter((line) => line.startsWith('| `'));
  const codes = rows.flatMap((row) => [...(row.split('|')[1] ?? '').matchAll(/`([a-z-]+)`/g)].map(([, code]) => code));
  const known = Object.entries(ERROR_CODES).flatMap(([code, { wire }]) => (wire ? [code] : []));
  t.deepEqual(codes.sort(), known.sort());
});

type States = Readonly<Record<string, readonly string[]>>;

const words = (cell: string): string[] => [...cell.matchAll(/`([a-z]+)`/g)].map(([, word]) => word ?? '');

/** The tables of the section, in order: each state with its possible successors. */
async function readTables(): Promise<States[]> {
  const text = await readFile('docs/protocol.md', 'utf8');
  const section = /^### States of a stream$[^]*?(?=^## )/m.exec(text)?.[0] ?? '';
  const tables = section.split('| --- | --- | --- |\n').slice(1);
  return tables.map((table) => {
    const rows = table.split('\n\n')[0]?.split('\n') ?? [];
    return Object.fromEntries(
      rows.map((row) => {
        const [, state = '', , next = ''] = row.split('|');
        return [words(state)[0], words(next)];
      }),
    ) as States;
  });
}

test('R-STREAM-2 to R-STREAM-9: the states of a stream and of its directions match the document', async (t) => {
  t.deepEqual(await readTables(), [STREAM_STATES, SENDING_STATES, RECEIVING_STATES]);
});
