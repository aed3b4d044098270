// Runs the specs on other versions of Node, one after the other: `npm run test:nodes -- [--node 26]… [--match unit]…
// [--concurrency 2]`.
// Ends with one line for each version, and with status 1 if one of them failed.
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { parseArgs } from 'node:util';
import { fetchRuntime, VERSIONS } from '../../packaging/runtimes.mjs';

process.chdir(join(import.meta.dirname, '../..'));

/** Folders of `spec/` without specs that `npm test` runs, and those whose specs run other processes or take long. */
const NO_SPECS = ['ava', 'fixtures', 'helpers', 'long', 'packages', 'vm'];
const NO_UNITS = [
  'bench',
  'conformance',
  'documents',
  'examples',
  'faults',
  'fuzz',
  'hostile',
  'interop',
  'leaks',
  'model',
  'packaging',
  'site',
  'threats',
];

const FOLDERS = readdirSync('spec').filter((name) => !NO_SPECS.includes(name));
const UNITS = FOLDERS.filter((name) => !NO_UNITS.includes(name));

const USAGE = `usage: npm run test:nodes -- [--node VERSION]… [--match FOLDER]… [--concurrency N]
  --node VERSION   a version, or how it begins: ${VERSIONS.join(', ')}; default: all of them
  --match FOLDER   "unit" (${UNITS.join(', ')}), or a folder of spec/: ${FOLDERS.join(', ')}; FOLDER/FILE for files of it,
                   such as 'cli/upgrade*'; default: all of them
  --concurrency N  the number of files of specs that run at once; default: that of npm test`;

const { versions, files, concurrency } = parseOptions();
const lines = [];
let hasFailed = false;
for (const version of versions) {
  const { isGood, line } = await runSpecs(version);
  lines.push(line);
  hasFailed ||= !isGood;
}
console.log(`\n${lines.join('\n')}`);
process.exitCode = hasFailed ? 1 : 0;

function parseOptions() {
  try {
    const many = { type: 'string', multiple: true, default: [] };
    const options = { node: many, match: many, concurrency: { type: 'string' } };
    const { node, match, concurrency } = parseArgs({ options }).values;
    if (concurrency !== undefined && !/^[1-9]\d*$/.test(concurrency))
      throw new Error(`--concurrency ${concurrency}: not a number of files`);
    const versions = node.length > 0 ? node.map(findVersion) : VERSIONS;
    return { versions, files: match.flatMap(findFiles), concurrency };
  } catch (error) {
    console.error(`${error.message}\n${USAGE}`);
    process.exit(64);
  }
}

function findVersion(text) {
  const found = VERSIONS.find((version) => `${version}.`.startsWith(`${text}.`));
  if (found === undefined) throw new Error(`--node ${text}: unknown version; available: ${VERSIONS.join(', ')}`);
  return found;
}

function findFiles(name) {
  const [first, file = '**/*'] = name.split('/');
  const folders = first === 'unit' ? UNITS : [first];
  for (const folder of folders) if (!FOLDERS.includes(folder)) throw new Error(`--match ${folder}: no such folder`);
  return folders.map((folder) => `dist/spec/${folder}/${file}.spec.js`);
}

/** Runs AVA on a version, showing its output, and summarizes it. */
async function runSpecs(version) {
  const bin = join(fetchRuntime(version), 'bin');
  console.log(`\n== Node ${version}`);
  const startedAt = Date.now();
  // The specs start this version as `node`, too.
  const env = { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}` };
  const limit = concurrency === undefined ? [] : ['--concurrency', concurrency];
  const words = ['node_modules/ava/entrypoints/cli.mjs', '--config', 'spec/ava/all.config.js', ...limit, ...files];
  const child = spawn(join(bin, 'node'), words, {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (chunk) => {
    process.stdout.write(chunk);
    // The counts come last.
    output = `${output}${chunk}`.slice(-20_000);
  });
  const status = await new Promise((resolve) => child.once('close', resolve));
  const count = (what) => Number(new RegExp(`^ *(\\d+) ${what}`, 'm').exec(output)?.[1] ?? 0);
  const passed = count('tests? passed');
  // AVA does not count passed tests if any failed.
  const isGood = status === 0 && passed > 0;
  const outcome = isGood
    ? `passed, ${passed} tests`
    : `FAILED, ${count('tests? failed')} tests failed, status ${status}`;
  const line = `Node ${version}: ${outcome}, in ${Math.round((Date.now() - startedAt) / 1000)} s`;
  return { isGood, line };
}
