// `npm run mutants`: removes single checks from the code, one at a time, in a copy of the project, and prints which specs notice.
// A check is the condition of an `if` that leaves, which becomes false, or one side of `&&` and `||`, which is removed. The copy
// is built once, with all of them: at run time each tests whether it is the removed one, and records the specs that reach it, so
// that only these are run for it.
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import ts from 'typescript';

const ROOT = join(import.meta.dirname, '../..');

const USAGE = `usage: npm run mutants -- [--count N] [--only N,...] [--seed N] [--since REVISION] [--all]
  --count N         number of checks; default: 100
  --only N,...      only these of the checks, by number, to continue a run or to repeat some
  --seed N          selects the checks; default: 1
  --since REVISION  only checks in lines that were added since a git revision
  --all             also run npm run test:all for checks that npm test does not notice
Exits with status 1 if a removed check goes unnoticed.`;

/** The kinds of the statements that leave. */
const LEAVING = new Set([
  ts.SyntaxKind.ReturnStatement,
  ts.SyntaxKind.ThrowStatement,
  ts.SyntaxKind.ContinueStatement,
  ts.SyntaxKind.BreakStatement,
]);

/** The quickest specs of a check, which are run first, take this long together, in seconds. */
const FIRST_SECONDS = 15;

const { count, only, seed, since, isAll } = parseOptions();
const copy = mkdtempSync(join(tmpdir(), 'vproxy-mutants-'));
process.on('exit', () => rmSync(copy, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));
/** Contains the number of the removed check. */
const OUT = join(copy, 'check-that-is-out');
/** A line for each check that a process reaches: its number, and the spec file. */
const SEEN = join(copy, 'checks-seen');
/** A line for each spec file that ended; see tools/test/spec-process.mjs. */
const USED = join(copy, 'seconds-used');

function parseOptions() {
  const number = (fallback) => ({ type: 'string', default: fallback });
  try {
    const { values } = parseArgs({
      options: {
        ...{ count: number('100'), seed: number('1'), only: { type: 'string' } },
        ...{ since: { type: 'string' }, all: { type: 'boolean', default: false } },
      },
    });
    const { count, seed, only = '', since, all: isAll } = values;
    for (const [name, given] of Object.entries({ count, seed, only }))
      if (!/^[\d,]{0,999}$/.test(given)) throw new Error(`--${name} ${given}: not a number`);
    const numbers = only === '' ? null : new Set(only.split(',').map(Number));
    return { count: Number(count), seed: Number(seed), only: numbers, since, isAll };
  } catch (error) {
    console.error(`${error.message}\n${USAGE}`);
    process.exit(64);
  }
}

function git(...args) {
  return execFileSync('git', args, { cwd: ROOT, encoding: 'utf8', maxBuffer: 2 ** 28 });
}

/** The numbers of the lines of a file that were added since a revision. */
function addedLines(file) {
  const hunks = git('diff', '-U0', since, '--', file).matchAll(/^@@ -\S+ \+(\d+)(?:,(\d+))? @@/gm);
  return new Set(
    [...hunks].flatMap(([, first, length = '1']) =>
      Array.from({ length: Number(length) }, (_, at) => Number(first) + at),
    ),
  );
}

function leaves(statement) {
  return ts.isBlock(statement)
    ? statement.statements.length > 0 && leaves(statement.statements.at(-1))
    : LEAVING.has(statement.kind);
}

/** Finds the checks of a file: the position of each, and its replacement. */
function checksOf(file) {
  const source = ts.createSourceFile(file, readFileSync(join(ROOT, file), 'utf8'), ts.ScriptTarget.Latest, true);
  const checks = [];
  const add = (node, instead) => {
    const line = source.getLineAndCharacterOfPosition(node.getStart()).line + 1;
    checks.push({ file, line, start: node.getStart(), end: node.end, was: node.getText(), instead });
  };
  const visit = (node) => {
    if (ts.isIfStatement(node) && node.elseStatement === undefined && leaves(node.thenStatement))
      add(node.expression, 'false');
    if (ts.isBinaryExpression(node) && ['&&', '||'].includes(node.operatorToken.getText())) {
      add(node, node.left.getText());
      add(node, node.right.getText());
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  if (since === undefined) return checks;
  const added = addedLines(file);
  return checks.filter(({ line }) => added.has(line));
}

/** Pseudorandom numbers from 0 to 1 (mulberry32). */
function randomFrom(start) {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Chooses checks that do not overlap. */
function chooseChecks() {
  const left = git('ls-files', 'lib/*.ts', 'cli/*.ts').trim().split('\n').flatMap(checksOf);
  const random = randomFrom(seed);
  const chosen = [];
  while (chosen.length < count && left.length > 0) {
    const [one] = left.splice(Math.floor(random() * left.length), 1);
    const isPart = chosen.some(({ file, start, end }) => file === one.file && start < one.end && one.start < end);
    if (!isPart) chosen.push({ index: chosen.length, ...one });
  }
  return chosen;
}

/** The code appended to a file with checks. A process that may not read or write here keeps all checks. */
const ASKING = `
function isCheckOut(index) {
  const fs = process.getBuiltinModule('node:fs');
  const state = (globalThis.vproxyChecks ??= { seen: new Set(), out: undefined });
  try {
    if (state.seen.size === 0) state.out = Number(fs.readFileSync(${JSON.stringify(OUT)}, 'utf8'));
    if (!state.seen.has(index)) {
      state.seen.add(index);
      fs.appendFileSync(${JSON.stringify(SEEN)}, \`\${index}\\t\${process.env.VPROXY_TEST_FILE ?? ''}\\n\`);
    }
  } catch {}
  return state.out === index;
}
`;

/** Makes a built copy in which each check can be removed by number. */
function copyProject() {
  const left = ['.git', 'node_modules'].map((name) => join(ROOT, name));
  cpSync(ROOT, copy, { recursive: true, filter: (path) => !left.includes(path) });
  symlinkSync(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
  const { config } = ts.readConfigFile(join(ROOT, 'tsconfig.json'), ts.sys.readFile);
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, ROOT);
  const compilerOptions = { ...options, module: ts.ModuleKind.ESNext };
  for (const file of new Set(checks.map((check) => check.file))) {
    let text = readFileSync(join(ROOT, file), 'utf8');
    const backwards = checks.filter((check) => check.file === file).sort((a, b) => b.start - a.start);
    for (const { index, start, end, was, instead } of backwards)
      text = `${text.slice(0, start)}(isCheckOut(${index}) ? (${instead}) : (${was}))${text.slice(end)}`;
    text += ASKING;
    const { outputText } = ts.transpileModule(text, { compilerOptions, fileName: file });
    // The program is bundled from the sources.
    writeFileSync(join(copy, file), text);
    writeFileSync(join(copy, 'dist', file.replace(/\.ts$/, '.js')), outputText);
  }
  execFileSync(process.execPath, ['packaging/program/build.mjs'], { cwd: copy, stdio: 'ignore' });
}

/** Runs tools/test/test.mjs in the copy, with a timeout in seconds. Returns its status (0 if all passed) and its output. */
function runSpecs(seconds, ...args) {
  return spawnSync('timeout', ['--kill-after=10', `${seconds}`, process.execPath, 'tools/test/test.mjs', ...args], {
    ...{ cwd: copy, encoding: 'utf8', maxBuffer: 2 ** 30 },
    env: { ...process.env, VPROXY_TEST_USAGE: USED },
  });
}

/** Runs all specs once with all checks. Returns the seconds that each file took, and the files that reach each check. */
function watch() {
  writeFileSync(OUT, '-1');
  const { stdout } = runSpecs(3600, ...(isAll ? ['--all'] : []), '--tap');
  const failed = stdout.split('\n').filter((line) => line.startsWith('not ok '));
  const seconds = new Map();
  for (const line of readFileSync(USED, 'utf8').trim().split('\n')) {
    const [wall, , file] = line.split('\t');
    const title = `- ${file.replace(/^spec\/|\.spec\.js$/g, '').replaceAll('/', ' › ')} › `;
    if (failed.some((one) => one.includes(title))) console.log(`${file} fails with all checks; skipped`);
    else seconds.set(file, Number(wall));
  }
  const seen = checks.map(() => new Set());
  for (const line of readFileSync(SEEN, 'utf8').trim().split('\n')) {
    const [index, file] = line.split('\t');
    // A process started with its own environment does not know its spec file.
    for (const one of file === '' ? seconds.keys() : [file]) if (seconds.has(one)) seen[index].add(one);
  }
  return { seconds, seen };
}

/** Returns what notices that a check is removed. Specs of its own folder run first, then the quickest. */
function judge({ index, file }) {
  writeFileSync(OUT, `${index}`);
  const folder = `spec/${file.replace(/^lib\//, '').replace(/[^/]*$/, '')}`;
  const order = (spec) => (spec.startsWith(folder) ? 0 : 3600) + seconds.get(spec);
  const specs = [...seen[index]].sort((a, b) => order(a) - order(b));
  if (specs.length === 0) return 'not reached';
  const [quick, slow] = [false, true].map((isSlow) =>
    specs.filter((spec) => spec.endsWith('.slow.spec.js') === isSlow),
  );
  if (isNoticed(quick)) return 'npm test';
  return isAll && isNoticed(slow, '--all') ? 'npm run test:all' : 'not noticed';
}

/** Whether one of some spec files fails; runs a few of them before the others. */
function isNoticed(specs, ...args) {
  let sum = 0;
  const first = specs.filter((spec) => (sum += seconds.get(spec)) < FIRST_SECONDS).length;
  return [specs.slice(0, first), specs.slice(first)]
    .filter((some) => some.length > 0)
    .some((some) => {
      const limit = 120 + 2 * some.reduce((all, spec) => all + seconds.get(spec), 0);
      return runSpecs(Math.ceil(limit), ...args, '--fail-fast', ...some.map((spec) => `dist/${spec}`)).status !== 0;
    });
}

const checks = chooseChecks();
copyProject();
const { seconds, seen } = watch();
const noticed = new Map();
for (const check of checks.filter(({ index }) => only?.has(index) !== false)) {
  // Lets signals be handled between two checks.
  await setImmediate();
  const who = judge(check);
  noticed.set(who, (noticed.get(who) ?? 0) + 1);
  const [was, instead] = [check.was, check.instead].map((text) => text.replace(/\s+/g, ' '));
  console.log(`${check.index}: ${who}: ${check.file}:${check.line}: ${was} -> ${instead}`);
}
console.log([...noticed].map(([who, times]) => `${times}: ${who}`).join(', '));
process.exitCode = [...noticed.keys()].some((who) => who.startsWith('not ')) ? 1 : 0;
