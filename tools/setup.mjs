// Makes a clone ready to run: installs the locked dependencies if they are missing or out of date, then builds if the sources
// have changed.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { oldestNode, requireNode } from '../packaging/require-node.cjs';
import { COPIED, filesIn, GENERATED, listSources } from './generate/generated.mjs';

/** The digest of the built sources. tsc writes the other file whenever it compiles something. */
const STAMP = 'dist/.sources';
const COMPILED = 'dist/.tsbuildinfo';

requireNode(oldestNode(JSON.parse(readFileSync('package.json', 'utf8')).engines));

const modifiedAt = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
/** With `npm --silent`, only a failure is printed, as the error of `execFileSync`. */
const [say, stderr] = process.env.npm_config_loglevel === 'silent' ? [() => {}, 'pipe'] : [console.error, 'inherit'];
const npm = (...args) => execFileSync('npm', args, { stdio: ['ignore', 'inherit', stderr] });

function digestSources() {
  const hash = createHash('sha256');
  for (const file of listSources()) hash.update(`${file}\0`).update(readFileSync(file)).update('\0');
  return hash.digest('hex');
}

/** Removes the output of deleted modules, which tsc leaves, and AVA would run. */
function removeStale() {
  const { include } = JSON.parse(readFileSync('tsconfig.json', 'utf8'));
  for (const folder of include.filter((name) => existsSync(join('dist', name))))
    for (const file of filesIn(join('dist', folder))) {
      const source = relative('dist', file).replace(/\.(js|js\.map|d\.ts)$/, '.ts');
      if (!existsSync(source) && !Object.values(GENERATED).includes(source)) rmSync(file);
    }
}

if (modifiedAt('node_modules/.package-lock.json') < modifiedAt('package-lock.json')) {
  say('installing the locked packages (npm ci)');
  npm('ci', '--no-audit', '--no-fund');
}
const digest = digestSources();
const isBuilt =
  modifiedAt(STAMP) > modifiedAt(COMPILED) &&
  readFileSync(STAMP, 'utf8') === digest &&
  [...Object.values(GENERATED), ...COPIED.keys()].every((file) => existsSync(file));
if (!isBuilt) {
  say('building (npm run build): 20 s, or minutes on a slow machine');
  removeStale();
  npm('run', '--silent', 'build');
  writeFileSync(STAMP, digest);
}
