#!/usr/bin/env node
/** Both programs as one, for guests: the name that it is called by says which of them runs. */
import { basename } from 'node:path';
import { isSea } from 'node:sea';
import { findProgram } from './find-program.js';

const [, called = ''] = process.argv;
// Node makes a script's path absolute; an executable is told what was typed.
const path = isSea() ? findProgram(called, process.env.PATH) : called;
const words = process.argv.slice(2);
const name = basename(path);

if (name.startsWith('vproxy') && name !== 'vproxy-storage') {
  void import('./main.js').then(({ runCommandLine }) => runCommandLine(words));
} else {
  void import('./storage-wrapper.js').then(({ runStorageWrapper }) => runStorageWrapper([path, ...words]));
}
