// Makes a clone ready to run: installs the locked dependencies where they are missing or out of date, then builds where the
// sources are not those of what is built.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { GENERATED } from './generated.mjs';
import { oldestNode, requireNode } from './require-node.cjs';

/** What a build reads, beside its packages. */
const SOURCES = ['bench', 'cli', 'docs', 'examples', 'lib', 'packaging', 'site', 'spec'];
const SOURCE_FILES = ['package.json', 'package-lock.json', 'tsconfig.json'];

/** A digest of the sources of what is built. tsc writes the other file whenever it has compiled something. */
const STAMP = 'dist/.sources';
const COMPILED = 'dist/.tsbuildinfo';

requireNode(oldestNode(JSON.parse(readFileSync('package.json', 'utf8')).engines));

const modifiedAt = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
const npm = (...args) => execFileSync('npm', args, { stdio: ['ignore', 'inherit', 'inherit'] });

/** The paths of all files in a folder and in its folders. */
const filesIn = (folder) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));

function digestSources() {
  const written = new Set(Object.values(GENERATED));
  const files = SOURCES.flatMap(filesIn).filter((file) => !written.has(file));
  const hash = createHash('sha256');
  for (const file of [...SOURCE_FILES, ...files.sort()])
    hash.update(`${file}\0`).update(readFileSync(file)).update('\0');
  return hash.digest('hex');
}

/** tsc leaves what it made of a module that is there no more, and AVA would run it. */
function removeStale() {
  const { include } = JSON.parse(readFileSync('tsconfig.json', 'utf8'));
  for (const folder of include.filter((name) => existsSync(join('dist', name))))
    for (const file of filesIn(join('dist', folder)))
      if (!existsSync(relative('dist', file).replace(/\.(js|js\.map|d\.ts)$/, '.ts'))) rmSync(file);
}

if (modifiedAt('node_modules/.package-lock.json') < modifiedAt('package-lock.json')) {
  npm('ci', '--no-audit', '--no-fund');
}
const digest = digestSources();
const isBuilt = modifiedAt(STAMP) > modifiedAt(COMPILED) && readFileSync(STAMP, 'utf8') === digest;
if (!isBuilt) {
  removeStale();
  npm('run', '--silent', 'build');
  writeFileSync(STAMP, digest);
}
