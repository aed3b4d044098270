/** What to do with a VM that is up. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../spec/helpers/files.js';
import { findProgram } from '../bench/process/find-program.js';
import { VPROXY } from './vm.js';

/** Lines for another terminal, in any folder. */
export function formatNextSteps(controlSocket: string): string {
  const onPath = findProgram('vproxy');
  const isThis = onPath !== undefined && readFileSync(onPath).equals(readFileSync(VPROXY));
  return `
In another terminal:

  export VPROXY_SOCKET=${quote(controlSocket)}
${isThis ? '' : `  vproxy() { ${quote(VPROXY)} "$@"; }\n`}\
  vproxy exec uname -a
  vproxy shell
  vproxy copy ${quote(join(PROJECT_ROOT, 'README.md'))} vm:/tmp/
  vproxy exec -d httpd -f -p 8080 -h /tmp
  vproxy ports

Ctrl-C in this terminal ends the VM.
`;
}

/** A word for a shell. */
const quote = (word: string): string => (/^[\w./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
