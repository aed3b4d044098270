// Makes a clone ready to run: installs the locked dependencies if they are missing or out of date, then builds if the sources
// have changed.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { GENERATED } from './generated.mjs';
import { oldestNode, requireNode } from './require-node.cjs';

/** The inputs of a build, besides its packages. */
const SOURCES = ['bench', 'cli', 'docs', 'examples', 'lib', 'packaging', 'python', 'site', 'spec'];
const SOURCE_FILES = ['package.json', 'package-lock.json', 'tsconfig.json'];

/** The digest of the built sources. tsc writes the other file whenever it compiles something. */
const STAMP = 'dist/.sources';
const COMPILED = 'dist/.tsbuildinfo';

requireNode(oldestNode(JSON.parse(readFileSync('package.json', 'utf8')).engines));

const modifiedAt = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
const npm = (...args) => execFileSync('npm', args, { stdio: ['ignore', 'inherit', 'inherit'] });

/** Lists all files in a folder, recursively. */
const filesIn = (folder) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));

const generated = new Set(Object.values(GENERATED));

function digestSources() {
  const files = SOURCES.flatMap(filesIn).filter((file) => !generated.has(file));
  const hash = createHash('sha256');
  for (const file of [...SOURCE_FILES, ...files.sort()])
    hash.update(`${file}\0`).update(readFileSync(file)).update('\0');
  return hash.digest('hex');
}

/** Removes the output of deleted modules, which tsc leaves, and AVA would run. */
function removeStale() {
  const { include } = JSON.parse(readFileSync('tsconfig.json', 'utf8'));
  for (const folder of include.filter((name) => existsSync(join('dist', name))))
    for (const file of filesIn(join('dist', folder))) {
      const source = relative('dist', file).replace(/\.(js|js\.map|d\.ts)$/, '.ts');
      if (!existsSync(source) && !generated.has(source)) rmSync(file);
    }
}

if (modifiedAt('node_modules/.package-lock.json') < modifiedAt('package-lock.json')) {
  console.error('installing the locked packages (npm ci)');
  npm('ci', '--no-audit', '--no-fund');
}
const digest = digestSources();
const isBuilt =
  modifiedAt(STAMP) > modifiedAt(COMPILED) &&
  readFileSync(STAMP, 'utf8') === digest &&
  [...generated].every((file) => existsSync(file));
if (!isBuilt) {
  console.error('building (npm run build; about 20 s)');
  removeStale();
  npm('run', '--silent', 'build');
  writeFileSync(STAMP, digest);
}
