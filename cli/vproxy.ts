#!/usr/bin/env node
/** The program `vproxy`. Scripts run commands at a peer by it in a loop: for those it loads one file more, and no other. */

const words = process.argv.slice(2);
if (words[0] === 'exec' || words[0] === 'shell') {
  const { createRequire } = await import('node:module');
  const { runExec } = createRequire(import.meta.url)('./exec/run-exec.cjs') as typeof import('./exec/run-exec.js');
  await runExec(words);
} else {
  const { runCommandLine } = await import('./main.js');
  await runCommandLine(words);
}
