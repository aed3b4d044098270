// Makes a fresh clone ready to run: installs the locked dependencies where they are missing or out of date, then builds.
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { oldestNode, requireNode } from './require-node.cjs';

requireNode(oldestNode(JSON.parse(readFileSync('package.json', 'utf8')).engines));

const modifiedAt = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
const npm = (...args) => execFileSync('npm', args, { stdio: ['ignore', 'inherit', 'inherit'] });

if (modifiedAt('node_modules/.package-lock.json') < modifiedAt('package-lock.json')) {
  npm('ci', '--no-audit', '--no-fund');
}
npm('run', '--silent', 'build');
