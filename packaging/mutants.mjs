// `npm run mutants`: takes single checks out of the code, one at a time, in a copy of the project, and says which specs notice.
// A check is the condition of an `if` that leaves, which becomes false, or one side of `&&` and `||`, which goes.
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import ts from 'typescript';

const ROOT = join(import.meta.dirname, '..');

const USAGE = `usage: npm run mutants -- [--count N] [--from N] [--seed N] [--since REVISION] [--all]
  --count N         how many checks; default: 100
  --from N          leaves out the first N of them, to continue a run; default: 0
  --seed N          which checks; default: 1
  --since REVISION  only those in lines that were added since a revision of git
  --all             what npm test does not notice is tried with npm run test:all, too
The specs of the code's own folder are asked first. Ends with status 1 where nobody notices one.`;

const { count, from, seed, since, isAll } = parseOptions();

/** The kinds of the statements that leave. */
const LEAVING = new Set([
  ts.SyntaxKind.ReturnStatement,
  ts.SyntaxKind.ThrowStatement,
  ts.SyntaxKind.ContinueStatement,
  ts.SyntaxKind.BreakStatement,
]);

const copy = copyProject();
const counts = new Map();
for (const [index, check] of chooseChecks().entries()) {
  const who = judge(check);
  counts.set(who, (counts.get(who) ?? 0) + 1);
  const [was, instead] = [check.was, check.instead].map((text) => text.replace(/\s+/g, ' '));
  console.log(`${from + index}: ${who}: ${check.file}:${check.line}: ${was} -> ${instead}`);
}
console.log([...counts].map(([who, times]) => `${times} noticed by ${who}`).join(', '));
process.exitCode = counts.has('nobody') ? 1 : 0;

function parseOptions() {
  const number = (fallback) => ({ type: 'string', default: fallback });
  try {
    const { values } = parseArgs({
      options: {
        ...{ count: number('100'), from: number('0'), seed: number('1') },
        ...{ since: { type: 'string' }, all: { type: 'boolean', default: false } },
      },
    });
    for (const name of ['count', 'from', 'seed'])
      if (!/^\d{1,9}$/.test(values[name])) throw new Error(`--${name} ${values[name]}: not a number`);
    const [count, from, seed] = [values.count, values.from, values.seed].map(Number);
    return { count, from, seed, since: values.since, isAll: values.all };
  } catch (error) {
    console.error(`${error.message}\n${USAGE}`);
    process.exit(64);
  }
}

/** A copy that is built, and goes when this process ends. */
function copyProject() {
  const folder = mkdtempSync(join(tmpdir(), 'vproxy-mutants-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));
  const left = ['.git', 'node_modules'].map((name) => join(ROOT, name));
  cpSync(ROOT, folder, { recursive: true, filter: (path) => !left.includes(path) });
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  return folder;
}

function git(...args) {
  return execFileSync('git', args, { cwd: ROOT, encoding: 'utf8' });
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

function chooseChecks() {
  const left = git('ls-files', 'lib/*.ts', 'cli/*.ts').trim().split('\n').flatMap(checksOf);
  const random = randomFrom(seed);
  const chosen = [];
  while (chosen.length < count && left.length > 0) chosen.push(...left.splice(Math.floor(random() * left.length), 1));
  return chosen.slice(from);
}

/** The folder of specs for a file of code: that of the same name, or the nearest one above it. Undefined: there is none. */
function specsOf(file) {
  for (let folder = file.replace(/^lib\//, ''); folder.includes('/'); ) {
    folder = folder.slice(0, folder.lastIndexOf('/'));
    if (existsSync(join(copy, 'dist/spec', folder))) return `dist/spec/${folder}/**`;
  }
  return undefined;
}

/** Whether the specs that some arguments of packaging/test.mjs name notice nothing. */
const isUnnoticed = (...args) =>
  spawnSync(process.execPath, ['packaging/test.mjs', ...args, '--fail-fast'], { cwd: copy, stdio: 'ignore' }).status ===
  0;

/** Who notices that a check is gone. */
function judge({ file, start, end, instead }) {
  const { config } = ts.readConfigFile(join(ROOT, 'tsconfig.json'), ts.sys.readFile);
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, ROOT);
  const text = readFileSync(join(ROOT, file), 'utf8');
  const without = `${text.slice(0, start)}${instead}${text.slice(end)}`;
  const compiled = join(copy, 'dist', file.replace(/\.ts$/, '.js'));
  const before = readFileSync(compiled);
  writeFileSync(compiled, ts.transpileModule(without, { compilerOptions: options, fileName: file }).outputText);
  try {
    execFileSync(process.execPath, ['packaging/program/build.mjs'], { cwd: copy, stdio: 'ignore' });
    const own = specsOf(file);
    if (own !== undefined && !isUnnoticed(own)) return 'its folder';
    if (!isUnnoticed()) return 'npm test';
    return isAll && !isUnnoticed('--all') ? 'npm run test:all' : 'nobody';
  } finally {
    writeFileSync(compiled, before);
  }
}
