#!/usr/bin/env node
/** The program `vproxy`. Scripts run commands by it in a loop: for those it loads nothing else. */

const words = process.argv.slice(2);
if (words[0] === 'exec' || words[0] === 'shell') {
  const { runExec } = await import('./exec/run-exec.js');
  await runExec(words);
} else {
  const { runCommandLine } = await import('./main.js');
  await runCommandLine(words);
}
