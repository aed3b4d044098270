// Makes the wheel of the Python package: node packaging/release/wheel.mjs --output FOLDER
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { sourceDate } from '../source-date.mjs';
import { PYTHON } from './tools.mjs';

const { output } = parseArgs({ options: { output: { type: 'string' } } }).values;
const work = mkdtempSync(join(tmpdir(), 'vproxy-wheel-'));
try {
  // A build writes into its folder, and an archive keeps modes, which depend on the umask.
  cpSync(join(import.meta.dirname, '../../python'), work, { recursive: true });
  execFileSync('chmod', ['-R', 'u=rwX,go=rX', work]);
  const words = ['--no-index', '--no-deps', '--disable-pip-version-check', '--no-build-isolation'];
  const env = { ...process.env, SOURCE_DATE_EPOCH: sourceDate() };
  execFileSync(PYTHON, ['-m', 'pip', 'wheel', '--quiet', ...words, '--wheel-dir', output, work], {
    env,
    stdio: 'inherit',
  });
} finally {
  rmSync(work, { recursive: true, force: true });
}
