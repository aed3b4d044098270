// Writes the manual pages into dist/man, from where npm installs them. Needs the output of tsc.
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sourceDate } from '../source-date.mjs';
import { writeChanged } from '../write-changed.mjs';
import { formatManuals } from './format-manuals.mjs';

const PROJECT = join(import.meta.dirname, '../..');
const { version } = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8'));
const folder = join(PROJECT, 'dist/man');
mkdirSync(folder, { recursive: true });
for (const { file, text } of await formatManuals({ version, date: new Date(Number(sourceDate()) * 1000) })) {
  writeChanged(join(folder, file), text);
}
