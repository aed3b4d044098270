/** What a build reads, and what it writes into the source tree, which .gitignore lists, too. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

/** The modules that it generates. */
export const GENERATED = {
  statusTypes: 'lib/status/types.ts',
  requestTypes: 'lib/control/client/requests.ts',
  shellScripts: 'cli/completion/scripts.ts',
  handoverForm: 'cli/upgrade/form.ts',
};

/** The files that it copies, each with its source: the synchronous part of the Python package, for the Ansible collection. */
export const COPIED = new Map(
  ['__init__.py', '_calls.py', '_core.py', '_errors.py', '_files.py', '_places.py', '_sync.py'].map((name) => [
    join('packaging/ansible/plugins/plugin_utils/vproxy', name),
    join('python/src/vproxy', name),
  ]),
);

const WRITTEN = new Set([...Object.values(GENERATED), ...COPIED.keys()]);

/** Python writes these, too. */
const OF_PYTHON = /(?:^|\/)__pycache__\/|^python\/build\/|\.egg-info\//;

const isWritten = (file) => WRITTEN.has(file) || OF_PYTHON.test(file);

/** The inputs of a build, besides its packages. */
const SOURCES = ['cli', 'conformance', 'docs', 'examples', 'lib', 'packaging', 'python', 'spec', 'tools', 'web'];
const SOURCE_FILES = ['package.json', 'package-lock.json', 'tsconfig.json'];

/** Lists all files in a folder, recursively. */
export const filesIn = (folder) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));

/** The inputs of a build, sorted; nothing that a build writes. */
export const listSources = () => [
  ...SOURCE_FILES,
  ...SOURCES.flatMap(filesIn)
    .filter((file) => !isWritten(file))
    .sort(),
];
