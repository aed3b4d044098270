#!/usr/bin/env node
/**
 * Both programs in one file, for guests. Called as `vproxy-storage`, or by a link of any other name, it is the wrapper; a
 * successor is always vproxy.
 */
import { lstatSync } from 'node:fs';
import { basename } from 'node:path';
import { isSea } from 'node:sea';
import { loadKoffiBy } from '../lib/system/libc.js';
import { locateProgram } from '../lib/system/processes/find-program.js';
import { keepThreadsFromHeap } from './compiler-threads.js';
import { isSuccessor } from './upgrade/starting.js';

const [, called = ''] = process.argv;
// Node makes the path of a script absolute; an executable gets it as typed.
const path = isSea() ? locateProgram(called, process.env.PATH) : called;
if (isSea()) loadKoffiBy(async () => (await import('./embedded-koffi.js')).loadEmbeddedKoffi());
keepThreadsFromHeap();
const words = process.argv.slice(2);
const name = basename(path);
const isLink = lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;

if (!isSuccessor(process.env) && (name === 'vproxy-storage' || (isLink && !name.startsWith('vproxy')))) {
  void import('./storage-wrapper.js').then(({ runStorageWrapper }) => runStorageWrapper([path, ...words]));
} else if (words[0] === 'exec' || words[0] === 'shell') {
  void import('./exec/run-exec.js').then(({ runExec }) => runExec(words));
} else {
  void import('./main.js').then(({ runCommandLine }) => runCommandLine(words));
}
