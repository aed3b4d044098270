#!/usr/bin/env node
/** The program `vproxy`. Scripts run commands at a peer by it in a loop: for those it loads little. */

import { keepThreadsFromHeap } from './compiler-threads.js';

keepThreadsFromHeap();
const words = process.argv.slice(2);
if (words[0] === 'exec' || words[0] === 'shell') {
  void import('./exec/run-exec.js').then(({ runExec }) => runExec(words));
} else {
  void import('./main.js').then(({ runCommandLine }) => runCommandLine(words));
}
