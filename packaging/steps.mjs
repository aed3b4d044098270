/** Runs the programs of a long build, and says on stderr what is done: when one begins, and every few seconds. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';

const INTERVAL_MS = 10_000;

/** Runs a program, with its output on stderr. Rejects if it fails. */
export async function runStep(what, program, args, options = {}) {
  console.error(what);
  const startedAt = Date.now();
  const sayMore = () => console.error(`still ${what}, ${Math.round((Date.now() - startedAt) / 1000)} s`);
  const timer = setInterval(sayMore, INTERVAL_MS);
  try {
    const child = spawn(program, args, { stdio: ['ignore', 2, 2], ...options });
    const [code, signal] = await once(child, 'exit');
    if (code !== 0) throw new Error(`${what}: ${program} ended with ${signal ?? `status ${code}`}`);
  } finally {
    clearInterval(timer);
  }
}
