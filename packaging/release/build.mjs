// `npm run release`: builds everything that is shipped, in dist/release or another folder; see --help and docs/releasing.md.
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { parseArgs } from 'node:util';
import { sourceDate, sourceRevision } from '../source-date.mjs';
import { listArtefacts } from './artefacts.mjs';
import { findChanges } from './documents.mjs';
import { describeMissing } from './tools.mjs';

const HELP = `Usage: npm run release -- [--output DIR] [--quick]

Builds every artefact of a release, their licences, a software bill of materials, the release notes from CHANGELOG.md, and
SHA256SUMS. The same commit, on a machine with the same versions of the tools, gives the same bytes.

  --output DIR  an empty or new folder [default: dist/release, which is replaced]
  --quick       does not compress packages, for tests
  -h, --help    this text
`;
const PROJECT = join(import.meta.dirname, '../..');
const callerFolder = process.env.INIT_CWD ?? process.cwd();
process.chdir(PROJECT);
const { version } = JSON.parse(readFileSync('package.json', 'utf8'));

/** A problem that is reported in one line. */
class Problem extends Error {}

const stop = new AbortController();
const work = mkdtempSync(join(tmpdir(), 'vproxy-release-'));
try {
  await main();
} catch (error) {
  console.error(error instanceof Problem ? `npm run release: ${error.message}` : error);
  process.exitCode = 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}

async function main() {
  const { output, quick, help } = readOptions();
  if (help) {
    process.stdout.write(HELP);
    return;
  }
  const changes = findChanges(version);
  const problem = describeMissing() ?? (changes === null ? `CHANGELOG.md: no section for ${version}` : null);
  if (problem !== null) throw new Problem(problem);
  const date = new Date(Number(sourceDate()) * 1000).toISOString();
  console.log(`vproxy ${version}, commit ${sourceRevision() ?? 'unknown'} of ${date}`);
  if (/unreleased/i.test(changes.heading)) console.log(`note: CHANGELOG.md calls it "${changes.heading}"`);
  execFileSync(process.execPath, ['tools/setup.mjs'], { stdio: 'inherit' });

  mkdirSync(output, { recursive: true });
  const { executables, others } = listArtefacts({ version, output, quick });
  for (const row of executables) await make(output, row);
  await Promise.all(Array.from({ length: availableParallelism() }, () => makeAll(output, others)));
  const files = readdirSync(output).sort();
  const sums = files.map(
    (file) =>
      `${createHash('sha256')
        .update(readFileSync(join(output, file)))
        .digest('hex')}  ${file}\n`,
  );
  writeFileSync(join(output, 'SHA256SUMS'), sums.join(''));
  console.log(`SHA256SUMS of ${files.length} files in ${relative(callerFolder, output) || '.'}`);
}

function readOptions() {
  const options = {
    output: { type: 'string' },
    quick: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  };
  let values;
  try {
    ({ values } = parseArgs({ options }));
  } catch (error) {
    throw new Problem(error.message.split('\n', 1)[0]);
  }
  if (values.help) return values;
  if (values.output === undefined) {
    rmSync('dist/release', { recursive: true, force: true });
    return { ...values, output: resolve('dist/release') };
  }
  const output = resolve(callerFolder, values.output);
  if (existsSync(output) && readdirSync(output).length > 0) throw new Problem(`--output ${values.output}: not empty`);
  return { ...values, output };
}

/** Makes one row after another, until none is left. */
async function makeAll(output, rows) {
  for (let row = rows.shift(); row !== undefined; row = rows.shift()) await make(output, row);
}

async function make(output, { files, from = output, command }) {
  const started = performance.now();
  const [program, ...words] = command;
  const child = spawn(program, words, { env: environment(), stdio: ['ignore', 'pipe', 'pipe'], signal: stop.signal });
  const said = Promise.all([child.stdout, child.stderr].map(text));
  const status = await new Promise((done) => child.on('error', done).on('close', done));
  const [out, err] = await said;
  if (status !== 0) {
    if (stop.signal.aborted) return;
    stop.abort();
    process.stderr.write(out + err);
    throw new Problem(`${files[0]}: "${words.join(' ')}" failed (${status})`);
  }
  for (const file of files) {
    const path = join(output, file);
    if (from !== output) copyFileSync(join(from, file), path);
    chmodSync(path, /^vproxy(?:-guest)?-linux-|\.cjs$/.test(file) ? 0o755 : 0o644);
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    console.log(`${file}  ${(statSync(path).size / 1e6).toFixed(2)} MB  ${seconds} s`);
  }
}

/** The image is made apart from the images of this user. */
function environment() {
  const storage = join(work, 'storage.conf');
  const folders = `graphroot = "${join(work, 'images')}"\nrunroot = "${join(work, 'run')}"\n`;
  writeFileSync(storage, `[storage]\ndriver = "vfs"\n${folders}`);
  return { ...process.env, SOURCE_DATE_EPOCH: sourceDate(), CONTAINERS_STORAGE_CONF: storage };
}
