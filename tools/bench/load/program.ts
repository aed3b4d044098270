/** The programs of a measurement as processes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** A started program of this folder's compiled output. */
export interface Program {
  readonly pid: number;
  /** The first line that it printed. */
  readonly firstLine: string;
  stop(): Promise<void>;
}

const scriptPath = (script: string): string => fileURLToPath(new URL(`../../../${script}`, import.meta.url));

/** Starts `node dist/SCRIPT ARGS…` and waits for its first line, on stdout or for a vproxy on stderr. */
export async function startProgram(script: string, args: readonly string[], line = /./): Promise<Program> {
  const child = spawn(process.execPath, [scriptPath(script), ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = once(child, 'close');
  const output: string[] = [];
  const firstLine = await new Promise<string>((resolve, reject) => {
    const look = (text: string): void => {
      output.push(text);
      if (line.test(text)) resolve(text);
    };
    createInterface({ input: child.stdout }).on('line', look);
    createInterface({ input: child.stderr }).on('line', look);
    exited.then(() => reject(new Error(`${script} ended:\n${output.join('\n')}`)), reject);
  });
  return {
    pid: child.pid ?? 0,
    firstLine,
    async stop() {
      child.kill('SIGTERM');
      await exited;
    },
  };
}

/** Runs `node dist/SCRIPT ARGS…` to its end, and resolves with the JSON that it printed. */
export async function runProgram(script: string, args: readonly string[]): Promise<Record<string, number>> {
  const child = spawn(process.execPath, [scriptPath(script), ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  const [status] = (await once(child, 'close')) as [number | null];
  if (status !== 0) throw new Error(`${script} ${args.join(' ')} ended with status ${status}`);
  return JSON.parse(Buffer.concat(chunks).toString()) as Record<string, number>;
}
