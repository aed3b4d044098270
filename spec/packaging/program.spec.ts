/** The files of dist/program, which the packages run: they behave as the single modules, and load only what they need. */
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { ESTABLISHED, runVproxy, spawnVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

const FOLDER = join(PROJECT_ROOT, 'dist/program');

/** Files that only some commands need, and no proxy. */
const LARGE_FILES = 'control yargs commands doctor permitted exec library'.split(' ').map((name) => `${name}.cjs`);

/** The same of Node's modules. */
const LARGE_MODULES = ['http', '_http_server', 'https', 'repl', 'readline', 'worker_threads'];

/** The files that a command loads to its end. */
async function filesOf(t: ExecutionContext, ...words: string[]): Promise<readonly string[]> {
  const report = reportLoads(t);
  const vproxy = spawnVproxy(t, words, { program: report.program });
  await vproxy.exited;
  return report.read().files;
}

test('commands load the files that they need', async (t) => {
  const nowhere = ['--socket', join(temporaryFolder(t), 'none.sock')];
  t.deepEqual(await filesOf(t, '--version'), ['vproxy.cjs', 'command.cjs']);
  t.deepEqual(await filesOf(t, '--help'), ['vproxy.cjs', 'command.cjs', 'carry.cjs', 'commands.cjs']);
  t.false((await filesOf(t, 'status', ...nowhere)).includes('doctor.cjs'));
  t.false((await filesOf(t, 'connect', 'ssh', ...nowhere)).includes('yargs.cjs'));
});

test('a proxy with a session loads nothing unnecessary', async (t) => {
  const folder = temporaryFolder(t);
  const reports = [reportLoads(t), reportLoads(t)] as const;
  const start = (index: 0 | 1, ...words: string[]) =>
    spawnVproxy(t, [...words, '--control', join(folder, `${index}.sock`)], { program: reports[index].program });
  const host = start(0, '-c', `unix-listen:${folder}/channel`, '-o', `echo:${folder}/echo`);
  const guest = start(1, '-c', `unix-connect:${folder}/channel`, '-i', 'echo:127.0.0.1:9');
  for (const side of [host, guest])
    await Promise.all([side.waitForLine(ESTABLISHED), side.waitForLine(TAKING_CONTROL)]);
  for (const side of [host, guest]) t.deepEqual(await side.stop(), { code: 0, signal: null });
  for (const report of reports) {
    const { files, modules } = report.read();
    t.true(files.includes('carry.cjs') && modules.has('net'));
    for (const name of LARGE_MODULES) t.false(modules.has(name), name);
    for (const name of LARGE_FILES) t.false(files.includes(name), name);
  }
});

test('running commands at the peer, and making a storage call, take one small file each', (t) => {
  const sourcesOf = (name: string): string[] => {
    const { sources } = JSON.parse(readFileSync(join(FOLDER, `${name}.map`), 'utf8')) as { sources: string[] };
    return sources.map((source) => source.replace('../../', ''));
  };
  for (const [name, most] of [
    ['exec.cjs', 50],
    ['vproxy-storage.cjs', 12],
  ] as const) {
    const sources = sourcesOf(name);
    t.true(sources.length > 5 && sources.length < most, `${name}: ${sources.length}`);
    const large = /^node_modules|^lib\/(proxy|session|forward|channel|link|settings)\//;
    for (const source of sources) t.notRegex(source, large);
    const text = readFileSync(join(FOLDER, name), 'utf8');
    t.false(/require\("\.\.?\//.test(text));
  }
});

test('the licences of the packages in it are beside it', (t) => {
  const text = readFileSync(join(FOLDER, 'LICENCES'), 'utf8');
  for (const name of ['vproxy', 'yargs', 'zod', 'smol-toml', 'tar-stream', 'debug', 'eventemitter3']) {
    t.regex(text, new RegExp(`^${name} \\d+\\.\\d+\\.\\d+$`, 'm'));
  }
});

test('the program prints its version', async (t) => {
  const { version } = JSON.parse(readFileSync(join(PROJECT_ROOT, 'package.json'), 'utf8')) as { version: string };
  t.true((await runVproxy(['--version'])).stdout.startsWith(`vproxy ${version} (`));
});

// The files of dist/program and the Node modules that a process has loaded.

/** The report of a process on what it has loaded. */
interface LoadReport {
  /** The words that run the program. */
  readonly program: readonly string[];
  /** What was loaded when the process exited. */
  read(): LoadedParts;
}

interface LoadedParts {
  /** The names of files of dist/program, in the order in which they were loaded. */
  readonly files: readonly string[];
  /** The public modules of Node, without `node:`. */
  readonly modules: ReadonlySet<string>;
}

/** Loaded before the program; writes the report when the process exits. */
const PRELOAD = `
const fs = require('node:fs');
const { openSync, readFileSync, writeFileSync } = fs;
const files = [];
const opened = new Map();
fs.openSync = (path, ...more) => {
  const descriptor = openSync(path, ...more);
  opened.set(descriptor, String(path));
  return descriptor;
};
fs.readFileSync = (file, ...more) => {
  files.push(opened.get(file) ?? String(file));
  return readFileSync(file, ...more);
};
process.on('exit', () => {
  const modules = process.moduleLoadList.filter((name) => name.startsWith('NativeModule '));
  writeFileSync(REPORT, JSON.stringify({ files, modules: modules.map((name) => name.slice(13)) }));
});
`;

/** Makes a report of one process of the program. */
function reportLoads(t: ExecutionContext): LoadReport {
  const folder = temporaryFolder(t);
  const [preload, report] = [join(folder, 'preload.cjs'), join(folder, 'report.json')];
  writeFileSync(preload, PRELOAD.replace('REPORT', JSON.stringify(report)));
  return {
    program: [process.execPath, '--require', preload, join(PROJECT_ROOT, 'dist/program/vproxy.cjs')],
    read() {
      const { files, modules } = JSON.parse(readFileSync(report, 'utf8')) as { files: string[]; modules: string[] };
      const own = files.filter((path) => path.startsWith(join(PROJECT_ROOT, 'dist/program/')));
      return { files: own.map((path) => basename(path)), modules: new Set(modules) };
    },
  };
}
