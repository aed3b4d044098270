/** The states of a stream in docs/protocol.md are those of the code, with the same transitions. */
import { readFile } from 'node:fs/promises';
import test from 'ava';
import { RECEIVING_STATES, SENDING_STATES, STREAM_STATES } from '../../lib/session/stream.js';

type States = Readonly<Record<string, readonly string[]>>;

const words = (cell: string): string[] => [...cell.matchAll(/`([a-z]+)`/g)].map(([, word]) => word ?? '');

/** The tables of the section, in their order: a state with those that may follow. */
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

test('R-STREAM-2 to R-STREAM-9: the states of a stream and of its directions are those of the document', async (t) => {
  t.deepEqual(await readTables(), [STREAM_STATES, SENDING_STATES, RECEIVING_STATES]);
});
