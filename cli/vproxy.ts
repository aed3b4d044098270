#!/usr/bin/env node
/** The program `vproxy`. Scripts run `vproxy exec` in loops, so that path loads little. */

import { keepThreadsFromHeap } from './compiler-threads.js';

keepThreadsFromHeap();
const words = process.argv.slice(2);
if (words[0] === 'shell' && words.some((word) => /^--keep(=|$)/.test(word))) {
  void import('./exec/run-kept.js').then(({ runExec }) => runExec(words));
} else if (words[0] === 'exec' || words[0] === 'shell') {
  void import('./exec/run-exec.js').then(({ runExec }) => runExec(words));
} else {
  void import('./main.js').then(({ runCommandLine }) => runCommandLine(words));
}
