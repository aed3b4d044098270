/** A command line of vproxy between pipes that the test holds. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import type { ExecutionContext } from 'ava';
import { within } from './eventually.js';
import { PROJECT_ROOT } from './project-root.js';

/** A command that runs; killed when the test ends. */
export interface PipedCommand {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  /** All of stdout, up to its end, which may come before the end of the process. */
  readonly output: Promise<Buffer>;
  /** The status, and all of stderr. */
  readonly ended: Promise<{ readonly code: number | null; readonly stderr: string }>;
}

/** Starts `vproxy` with `args`. */
export function runPiped(
  t: ExecutionContext,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): PipedCommand {
  const child = spawn(process.execPath, [join(PROJECT_ROOT, 'dist/cli/vproxy.js'), ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  t.teardown(() => child.kill('SIGKILL'));
  child.stdin.on('error', () => undefined);
  const stderr = collect(child.stderr);
  const closed = new Promise<number | null>((resolve) => child.once('exit', resolve));
  const ended = Promise.all([closed, stderr]).then(([code, text]) => ({ code, stderr: text.toString() }));
  return {
    child,
    output: within(30_000, 'the end of stdout', collect(child.stdout)),
    ended: within(30_000, 'the end of the process', ended),
  };
}

async function collect(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
