/** The files of dist/program, which the packages run: they behave as the single modules, and load only what they need. */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { newReceiveWindow, ReceiveWindow } from '../../lib/session/flow.js';
import { Budget } from '../../lib/util/bounds.js';
import { PROJECT_ROOT, projectText, staticImports, temporaryFolder } from '../helpers/files.js';
import { ESTABLISHED, runVproxy, spawnVproxy, TAKING_CONTROL } from '../helpers/vproxy-process.js';

const FOLDER = join(PROJECT_ROOT, 'dist/program');

/** What only some commands need, and no proxy: yargs, zod, the control requests, commands and copies for the peer, the doctor. */
const LARGE =
  /^node_modules\/(yargs|zod|tar-stream)|^lib\/(control\/(routes\/(?!request-error)|client\/(?!plain-http))|services\/(exec\/pty|copy))\/|^cli\/(commands\/(?!run)|doctor)/;

/** The carrying of streams, which no command needs. */
const CARRYING = /^lib\/(proxy\/proxy|session\/(session|stream)|forward\/(splice|incoming)|link\/link-runner)\.ts/;

/** Large modules of Node that neither needs. On Node 24, koffi loads `worker_threads`. */
const LARGE_MODULES = ['http', '_http_server', 'https', 'repl', 'readline', 'tls', 'zlib'];

/** The sources that a command loads to its end. */
async function sourcesOf(t: ExecutionContext, ...words: string[]): Promise<readonly string[]> {
  const report = reportLoads(t);
  const vproxy = spawnVproxy(t, words, { program: report.program });
  await vproxy.exited;
  return report.read().sources;
}

const matching = (sources: readonly string[], unwanted: RegExp) => sources.filter((source) => unwanted.test(source));

test('commands load the sources that they need', async (t) => {
  const nowhere = ['--socket', join(temporaryFolder(t), 'none.sock')];
  for (const [words, wanted, most, unwanted] of [
    [['--version'], 'cli/package-info.ts', 15, /^node_modules|^cli\/command/],
    [['--help'], 'cli/command/help.ts', 140, /^node_modules\/(yargs|zod)/],
    [['status', ...nowhere], 'cli/commands/status.ts', 61, /^node_modules\/(yargs|zod)|^cli\/doctor/],
    [['connect', 'ssh', ...nowhere], 'cli/commands/connect.ts', 60, /^node_modules|^cli\/doctor/],
    [['info', ...nowhere], 'cli/command/yargs-reader.ts', 110, /^node_modules\/(y18n|yargs\/lib|zod)|^cli\/doctor/],
  ] as const) {
    const sources = await sourcesOf(t, ...words);
    t.true(sources.includes(wanted) && sources.length <= most, `${words[0]}: ${sources.length}`);
    t.deepEqual(matching(sources, unwanted), [], words[0]);
    if (words[0] !== '--help') t.deepEqual(matching(sources, CARRYING), [], words[0]);
  }
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
    const { sources, modules } = report.read();
    t.true(sources.includes('lib/session/session.ts') && modules.has('net'));
    for (const name of LARGE_MODULES) t.false(modules.has(name), name);
    t.deepEqual(matching(sources, LARGE), []);
  }
});

test('running commands at the peer, and making a storage call, take one small file each', (t) => {
  const sourcesIn = (name: string): string[] => {
    const { sources } = JSON.parse(readFileSync(join(FOLDER, `${name}.map`), 'utf8')) as { sources: string[] };
    return sources.map((source) => source.replace('../../', ''));
  };
  for (const [name, most] of [
    // One of them is empty: kept-shell.ts, which the other file has.
    ['exec.cjs', 52],
    ['vproxy-storage.cjs', 12],
  ] as const) {
    const sources = sourcesIn(name);
    t.true(sources.length > 5 && sources.length < most, `${name}: ${sources.length}`);
    const large = /^node_modules|^lib\/(proxy|session|forward|channel|link|settings)\//;
    for (const source of sources) t.notRegex(source, large);
    const text = readFileSync(join(FOLDER, name), 'utf8');
    t.false(/require\("\.\.?\//.test(text));
  }
});

test('specs assert invariants, and the programs do not pay for that', (t) => {
  const window = new ReceiveWindow(1024, new Budget(0), newReceiveWindow(1024, 0));
  const release = () => window.release(1, { nowMs: 0, roundTripMs: 1 }, false);
  t.throws(release, { code: 'internal', message: /^receive window: invariant 1 of 3: \{.*"releasedBytes":1/ });
  for (const name of readdirSync(FOLDER, { recursive: true, encoding: 'utf8' }).filter((each) => /\.c?js$/.test(each)))
    t.notRegex(readFileSync(join(FOLDER, name), 'utf8'), /INVARIANT|: invariant |util\/invariant/, name);
});

test('vproxy/peer is the peer of the library, without its channels and its proxy', async (t) => {
  const script =
    "import * as all from 'vproxy'; import { connectPeer } from 'vproxy/peer'; console.log(all.connectPeer === connectPeer)";
  const words = ['--input-type=module', '--eval', script];
  const { stdout } = await promisify(execFile)(process.execPath, words, { cwd: PROJECT_ROOT });
  t.is(stdout, 'true\n');
  const modules = [...staticImports([join(PROJECT_ROOT, 'dist/lib/peer.js')])];
  t.true(modules.length > 30);
  t.deepEqual(
    modules.filter((name) => /\/dist\/lib\/(proxy\/|channel\/(?!kind\.js))/.test(name)),
    [],
  );
});

test('the licences of the packages in it are beside it, each after the notices of those that have it', (t) => {
  const parts = readFileSync(join(FOLDER, 'LICENCES'), 'utf8').split('\n\n---\n\n');
  for (const name of ['vproxy', 'yargs', 'zod', 'smol-toml', 'tar-stream', 'debug', 'eventemitter3']) {
    const file = name === 'vproxy' ? 'LICENSE' : `node_modules/${name}/LICENSE`;
    const part = parts.find((one) => new RegExp(`^${name} \\d+\\.\\d+\\.\\d+$`, 'm').test(one)) ?? '';
    // Every word of it, if not in one piece.
    for (const line of projectText(file).split('\n')) {
      const words = (text: string) => text.toLowerCase().replace(/[^a-z\d]+/g, ' ');
      t.true(words(part).includes(words(line).trim()), `${name}: ${line}`);
    }
  }
});

test('the program prints its version', async (t) => {
  const { version } = JSON.parse(projectText('package.json')) as { version: string };
  t.true((await runVproxy(['--version'])).stdout.startsWith(`vproxy ${version} (`));
});

// The sources and the Node modules that a process has loaded.

/** The report of a process on what it has loaded. */
interface LoadReport {
  /** The words that run the program. */
  readonly program: readonly string[];
  /** What was loaded when the process exited. */
  read(): Loaded;
}

interface Loaded {
  /** By path, in the order in which they were loaded. */
  readonly sources: readonly string[];
  /** The public modules of Node, without `node:`. */
  readonly modules: ReadonlySet<string>;
}

/** Loaded before the program; writes the report when the process exits. */
const PRELOAD = `
const vm = require('node:vm');
const { writeFileSync } = require('node:fs');
const parts = [];
const { compileFunction } = vm;
vm.compileFunction = (code, parameters, options) => {
  parts.push([options.filename, options.lineOffset]);
  return compileFunction(code, parameters, options);
};
process.on('exit', () => {
  const modules = process.moduleLoadList.filter((name) => name.startsWith('NativeModule '));
  writeFileSync(REPORT, JSON.stringify({ parts, modules: modules.map((name) => name.slice(13)) }));
});
`;

/** The map of a file of parts. */
interface PartsMap {
  readonly sections: readonly {
    readonly offset: { readonly line: number };
    readonly map: { readonly sources: string[] };
  }[];
}

/** The sources of the part whose code begins behind `line` of a file. */
function sourcesAt(file: string, line: number): string[] {
  const { sections } = JSON.parse(readFileSync(`${file}.map`, 'utf8')) as PartsMap;
  const section = sections.find(({ offset }) => offset.line === line + 1);
  return (section?.map.sources ?? []).map((source) => source.replace(/^(\.\.\/)+/, ''));
}

/** Makes a report of one process of the program. */
function reportLoads(t: ExecutionContext): LoadReport {
  const folder = temporaryFolder(t);
  const [preload, report] = [join(folder, 'preload.cjs'), join(folder, 'report.json')];
  writeFileSync(preload, PRELOAD.replace('REPORT', JSON.stringify(report)));
  return {
    program: [process.execPath, '--require', preload, join(FOLDER, 'vproxy.cjs')],
    read() {
      const { parts, modules } = JSON.parse(readFileSync(report, 'utf8')) as {
        parts: [file: string, line: number][];
        modules: string[];
      };
      return { sources: parts.flatMap(([file, line]) => sourcesAt(file, line)), modules: new Set(modules) };
    },
  };
}
