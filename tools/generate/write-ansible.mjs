// Copies the synchronous part of the Python package into the Ansible collection, which may depend on no other package.
import { mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { writeChanged } from '../../packaging/write-changed.mjs';
import { COPIED } from './generated.mjs';

process.chdir(join(import.meta.dirname, '../..'));

for (const [path, source] of COPIED) {
  mkdirSync(dirname(path), { recursive: true });
  writeChanged(path, readFileSync(source, 'utf8'));
}
