/** What a process of the program has loaded: files of dist/program, and modules of Node. */
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { PROJECT_ROOT, temporaryFolder } from './files.js';

/** Where a process tells what it has loaded. */
export interface LoadReport {
  /** The words that run the program. */
  readonly program: readonly string[];
  /** What had been loaded when the process ended. */
  read(): LoadedParts;
}

export interface LoadedParts {
  /** The names of files of dist/program, in the order in which they were loaded. */
  readonly files: readonly string[];
  /** The public modules of Node, without `node:`. */
  readonly modules: ReadonlySet<string>;
}

/** Is loaded before the program, and writes the report at the end of the process. */
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
export function reportLoads(t: ExecutionContext): LoadReport {
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
