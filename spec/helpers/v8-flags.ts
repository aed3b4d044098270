/** The flags that a module of the program gives to V8, in a separate process. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { PROJECT_ROOT } from './files.js';

/**
 * Runs `code` in a new process, where `part` is the module `path` of dist, and `flags` are those given to V8 so far; `code`
 * prints JSON. Rejects if V8, or anything else, complains.
 */
export async function runWithFlags(path: string, code: string): Promise<unknown> {
  const script = `
    import { syncBuiltinESMExports } from 'node:module';
    import v8 from 'node:v8';
    const flags = [];
    const setFlag = v8.setFlagsFromString;
    v8.setFlagsFromString = (flag) => { flags.push(flag); setFlag(flag); };
    syncBuiltinESMExports();
    const part = await import(${JSON.stringify(join(PROJECT_ROOT, 'dist', path))});
    ${code}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script]);
  const [output, complaints] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  if (complaints !== '') throw new Error(complaints);
  return JSON.parse(output);
}

export const NODE_MAJOR = Number.parseInt(process.versions.node, 10);
