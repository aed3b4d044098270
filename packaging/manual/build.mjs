// Writes the manual pages into dist/man, from where npm installs them, and lists them in package.json. Needs the output of tsc.
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sourceDate } from '../source-date.mjs';
import { writeChanged } from '../write-changed.mjs';
import { formatManuals } from './format-manuals.mjs';

const PROJECT = join(import.meta.dirname, '../..');
const path = join(PROJECT, 'package.json');
const description = JSON.parse(readFileSync(path, 'utf8'));
const folder = join(PROJECT, 'dist/man');
mkdirSync(folder, { recursive: true });
const { version } = description;
const pages = await formatManuals({ version, date: new Date(Number(sourceDate()) * 1000) });
for (const { file, text } of pages) writeChanged(join(folder, file), text);
// npm expands a folder of pages only when it publishes: a package installed from a file would have none.
description.man = pages.map(({ file }) => `./dist/man/${file}`);
writeChanged(path, `${JSON.stringify(description, null, 2)}\n`);
