// `npm test`, or with --all `npm run test:all`: prints what this machine lacks, runs AVA with the given patterns, and prints how
// many tests were skipped.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { installLine, missingNeeds, SKIPPED_FILE } from '../../dist/spec/helpers/needs.js';

process.chdir(join(import.meta.dirname, '../..'));
const missing = missingNeeds();
if (missing.length > 0) {
  console.log(
    `This machine lacks ${missing.join(', ')}: tests that need them are skipped. To install them, run as root:`,
  );
  console.log(`  ${installLine(missing)}`);
}

const words = process.argv.slice(2);
const isAll = words.includes('--all');
const config = `spec/ava/${isAll ? 'all' : 'quick'}.config.js`;
const patterns = words.filter((word) => word !== '--all');
const folder = mkdtempSync(join(tmpdir(), 'vproxy-test-'));
const skipped = join(folder, 'skipped');
writeFileSync(skipped, '');
// Every Node process would read these certificates when it starts; no test needs them.
const certificates = { NODE_EXTRA_CA_CERTS: '' };
// The python3 of a version manager starts a dozen shells before the interpreter: the specs start the latter.
const python = spawnSync('python3', ['-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' });
const folders = (process.env.PATH ?? '').split(delimiter);
const interpreters = dirname(python.stdout?.trim() || folders[0]);
const PATH = [...(folders.includes(interpreters) ? [] : [interpreters]), ...folders].join(delimiter);
const child = spawn(process.execPath, ['node_modules/ava/entrypoints/cli.mjs', '--config', config, ...patterns], {
  env: { ...process.env, ...certificates, PATH, [SKIPPED_FILE]: skipped, ...(isAll && { VPROXY_TEST_ALL: '1' }) },
  stdio: 'inherit',
});
// AVA exits by the same signal, after listing the running tests.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => undefined);
child.once('close', (code, signal) => {
  const needs = readFileSync(skipped, 'utf8').split('\n').slice(0, -1);
  rmSync(folder, { recursive: true });
  const counts = [...new Set(needs)]
    .sort()
    .map((name) => `${needs.filter((one) => one === name).length} without ${name}`);
  if (counts.length > 0) console.log(`${needs.length} tests were skipped on this machine: ${counts.join(', ')}`);
  process.exitCode = signal === null ? code : 1;
});
