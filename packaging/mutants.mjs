// `npm run mutants`: takes single checks out of the code, one at a time, in a copy of the project, and says which specs notice.
// A check is the condition of an `if` that leaves, which becomes false, or one side of `&&` and `||`, which goes. The copy is
// built once, with all of them: each asks whether it is the one that is out, and notes the specs that come by, so that only these
// are asked about it.
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import ts from 'typescript';

const ROOT = join(import.meta.dirname, '..');

const USAGE = `usage: npm run mutants -- [--count N] [--only N,...] [--seed N] [--since REVISION] [--all]
  --count N         how many checks; default: 100
  --only N,...      of these checks only those with these numbers, to continue a run or to look again
  --seed N          which checks; default: 1
  --since REVISION  only those in lines that were added since a revision of git
  --all             what npm test does not notice is tried with npm run test:all, too
Ends with status 1 where nobody notices one.`;

/** The kinds of the statements that leave. */
const LEAVING = new Set([
  ts.SyntaxKind.ReturnStatement,
  ts.SyntaxKind.ThrowStatement,
  ts.SyntaxKind.ContinueStatement,
  ts.SyntaxKind.BreakStatement,
]);

/** How long the quickest specs of a check take together, in seconds, that are asked before the others. */
const FIRST_SECONDS = 15;

const { count, only, seed, since, isAll } = parseOptions();
const copy = mkdtempSync(join(tmpdir(), 'vproxy-mutants-'));
process.on('exit', () => rmSync(copy, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));
/** Names the check that is out. */
const OUT = join(copy, 'check-that-is-out');
/** A line for each check that a process comes by: its number, and the file of specs. */
const SEEN = join(copy, 'checks-seen');
/** A line for each file of specs that ended; see packaging/spec-process.mjs. */
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

/** The checks of a file: where each is, and what stands there without it. */
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

/** Numbers from 0 to 1 that follow from a seed (mulberry32). */
function randomFrom(start) {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Checks of which none is part of another one. */
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

/** What a file with checks ends with. A process that may not read or write here has all checks. */
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

/** A built copy, in which each check can be taken out by its number. */
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
    // The program is made of the sources.
    writeFileSync(join(copy, file), text);
    writeFileSync(join(copy, 'dist', file.replace(/\.ts$/, '.js')), outputText);
  }
  execFileSync(process.execPath, ['packaging/program/build.mjs'], { cwd: copy, stdio: 'ignore' });
}

/** Runs packaging/test.mjs in the copy, for so many seconds at most. Its status, 0 where all passed, and what it printed. */
function runSpecs(seconds, ...args) {
  return spawnSync('timeout', ['--kill-after=10', `${seconds}`, process.execPath, 'packaging/test.mjs', ...args], {
    ...{ cwd: copy, encoding: 'utf8', maxBuffer: 2 ** 30 },
    env: { ...process.env, VPROXY_TEST_USAGE: USED },
  });
}

/** Lets all specs run once with all checks. The seconds that each file took, and those that passed by each check. */
function watch() {
  writeFileSync(OUT, '-1');
  const { stdout } = runSpecs(3600, ...(isAll ? ['--all'] : []), '--tap');
  const failed = stdout.split('\n').filter((line) => line.startsWith('not ok '));
  const seconds = new Map();
  for (const line of readFileSync(USED, 'utf8').trim().split('\n')) {
    const [wall, , file] = line.split('\t');
    const title = `- ${file.replace(/^spec\/|\.spec\.js$/g, '').replaceAll('/', ' › ')} › `;
    if (failed.some((one) => one.includes(title))) console.log(`${file} fails with all checks: it is asked about none`);
    else seconds.set(file, Number(wall));
  }
  const seen = checks.map(() => new Set());
  for (const line of readFileSync(SEEN, 'utf8').trim().split('\n')) {
    const [index, file] = line.split('\t');
    // A process that was started with an environment of its own does not say for which specs it is.
    for (const one of file === '' ? seconds.keys() : [file]) if (seconds.has(one)) seen[index].add(one);
  }
  return { seconds, seen };
}

/** Who notices that a check is out. Those of its own folder are asked first, then the quickest. */
function judge({ index, file }) {
  writeFileSync(OUT, `${index}`);
  const folder = `spec/${file.replace(/^lib\//, '').replace(/[^/]*$/, '')}`;
  const order = (spec) => (spec.startsWith(folder) ? 0 : 3600) + seconds.get(spec);
  const specs = [...seen[index]].sort((a, b) => order(a) - order(b));
  if (specs.length === 0) return 'nobody comes by';
  const [quick, slow] = [false, true].map((isSlow) =>
    specs.filter((spec) => spec.endsWith('.slow.spec.js') === isSlow),
  );
  if (isNoticed(quick)) return 'npm test';
  return isAll && isNoticed(slow, '--all') ? 'npm run test:all' : 'nobody';
}

/** Whether one of some files of specs fails; a few of them are asked before the others. */
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
  // Signals are heard between two checks.
  await setImmediate();
  const who = judge(check);
  noticed.set(who, (noticed.get(who) ?? 0) + 1);
  const [was, instead] = [check.was, check.instead].map((text) => text.replace(/\s+/g, ' '));
  console.log(`${check.index}: ${who}: ${check.file}:${check.line}: ${was} -> ${instead}`);
}
console.log([...noticed].map(([who, times]) => `${times}: ${who}`).join(', '));
process.exitCode = [...noticed.keys()].some((who) => who.startsWith('nobody')) ? 1 : 0;
