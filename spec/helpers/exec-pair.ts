/** Two command lines with a session, one of which lets the other run commands, and `vproxy exec` through them. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { within } from './eventually.js';
import { TAKING_CONTROL } from './log-lines.js';
import { type ProcessPair, processPair } from './process-pair.js';
import { PROJECT_ROOT } from './project-root.js';
import { type PipedCommand, runPiped } from './run-piped.js';
import { temporaryFolder } from './temp-folder.js';

/** How a shell's script ended. */
export interface ScriptResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ExecPair {
  /** The guest lets commands be run, the host has the control socket. */
  readonly pair: ProcessPair;
  /** For commands: the control socket; `VPROXY`, the command line for a shell; `WORK`, an empty folder. */
  readonly env: Readonly<Record<string, string>>;
  /** A folder of the test. */
  readonly folder: string;
  /** Starts `vproxy exec` with these words, and pipes that the test holds. */
  readonly start: (...words: readonly string[]) => PipedCommand;
  /** Runs it to its end, with these bytes as standard input. */
  readonly exec: (words: readonly string[], input?: string | Buffer) => Promise<ScriptResult>;
  /** Runs a script of bash, in which `$VPROXY exec …` works. */
  readonly script: (text: string) => Promise<ScriptResult>;
}

/** A pair with a session, whose guest has `args`. */
export async function execPair(t: ExecutionContext, args: readonly string[] = ['--allow-exec']): Promise<ExecPair> {
  const folder = temporaryFolder(t);
  const socket = join(folder, 'control.sock');
  const pair = await processPair(t, { host: ['--control', socket], guest: args });
  await pair.host.waitForLine(TAKING_CONTROL);
  const vproxy = `${process.execPath} ${join(PROJECT_ROOT, 'dist/cli/vproxy.js')}`;
  const env = { VPROXY_SOCKET: socket, VPROXY: vproxy, WORK: folder };
  const start = (...words: readonly string[]): PipedCommand => runPiped(t, ['exec', ...words], env);
  return {
    pair,
    env,
    folder,
    start,
    exec: async (words, input = '') => {
      const { child, output, ended } = start(...words);
      child.stdin.end(input);
      const [stdout, { code, stderr }] = await Promise.all([output, ended]);
      return { code, stdout: stdout.toString(), stderr };
    },
    script: (text) => runScript(t, text, env),
  };
}

function runScript(t: ExecutionContext, text: string, env: Readonly<Record<string, string>>): Promise<ScriptResult> {
  const child = spawn('bash', ['-c', text], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  t.teardown(() => child.kill('SIGKILL'));
  const texts = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk: Buffer) => {
    texts.stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    texts.stderr += chunk.toString();
  });
  const closed = new Promise<ScriptResult>((resolve) => child.once('close', (code) => resolve({ code, ...texts })));
  return within(60_000, 'the end of a script', closed);
}
