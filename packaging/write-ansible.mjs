// Copies the synchronous part of the Python package into the Ansible collection, which may depend on no other package.
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeChanged } from './write-changed.mjs';

process.chdir(join(import.meta.dirname, '..'));

const FOLDER = 'packaging/ansible/plugins/plugin_utils/vproxy';

mkdirSync(FOLDER, { recursive: true });
for (const name of ['__init__.py', '_calls.py', '_core.py', '_errors.py', '_places.py', '_sync.py'])
  writeChanged(join(FOLDER, name), readFileSync(join('python/src/vproxy', name), 'utf8'));
