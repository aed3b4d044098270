/** Runs commands in the test's own process: their output and exit status, without a process for each. */
import { AsyncLocalStorage } from 'node:async_hooks';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { Writable } from 'node:stream';
import { runCommand } from '../../cli/command/run-command.js';
import { exitStatusOf } from '../../cli/exit.js';
import { Output } from '../../cli/run/output.js';
import type { RunResult } from './vproxy-process.js';

/** Replaces what belongs to the whole process. */
interface Call {
  readonly stdout: Collector;
  readonly stderr: Collector;
  readonly env: NodeJS.ProcessEnv;
}

class Collector extends Writable {
  text = '';

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.text += chunk.toString();
    callback();
  }
}

class Exit extends Error {
  code = 0;
}

const calls = new AsyncLocalStorage<Call>();

for (const name of ['stdout', 'stderr', 'env'] as const) {
  const descriptor = Object.getOwnPropertyDescriptor(process, name);
  const own = (): unknown => descriptor?.get?.call(process) ?? descriptor?.value;
  const get = () => calls.getStore()?.[name] ?? own();
  Object.defineProperty(process, name, { configurable: true, enumerable: true, get });
}

const { writeSync } = fs;
fs.writeSync = ((descriptor: number, bytes: Uint8Array, ...more: []) => {
  const call = descriptor === 1 ? calls.getStore() : undefined;
  if (call === undefined) return writeSync(descriptor, bytes, ...more);
  call.stdout.write(bytes);
  return bytes.length;
}) as typeof writeSync;
syncBuiltinESMExports();

const exit = process.exit.bind(process);
process.exit = (code) => {
  if (calls.getStore() === undefined) exit(code);
  throw Object.assign(new Exit('process.exit()'), { code: Number(code ?? 0) });
};

/**
 * Runs a command, like `runVproxy` in its own process; several may run at once. Not for commands that use descriptors or signals
 * of the process: `exec`, `shell`, `connect`, and a proxy.
 */
export function callVproxy(
  args: readonly string[],
  { env = {} }: { readonly env?: Readonly<Record<string, string>> } = {},
): Promise<RunResult> {
  const call = { stdout: new Collector(), stderr: new Collector(), env: { ...process.env, ...env } };
  return calls.run(call, async () => {
    const code = await runCommand(args).catch((error: unknown) => {
      if (error instanceof Exit) return error.code;
      new Output().failure(error);
      return exitStatusOf(error);
    });
    return { code, stdout: call.stdout.text, stderr: call.stderr.text };
  });
}
