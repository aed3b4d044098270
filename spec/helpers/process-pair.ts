/** Two command lines on one unix channel: the host listens on it, the guest connects. */

import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { PROJECT_ROOT, temporaryFolder } from './files.js';
import { within } from './time.js';
import {
  ESTABLISHED,
  type PipedCommand,
  runPiped,
  type SpawnOptions,
  spawnVproxy,
  TAKING_CONTROL,
  type VproxyProcess,
} from './vproxy-process.js';

export interface PairSetup {
  /** Arguments after the channel. */
  readonly host?: readonly string[];
  readonly guest?: readonly string[];
  readonly hostOptions?: SpawnOptions;
  readonly guestOptions?: SpawnOptions;
  /** Where the host listens. Default: in a folder of its own. */
  readonly hostPath?: string;
  /** What the guest connects to. Default: where the host listens. */
  readonly guestPath?: string;
}

/** A pair whose sides can be restarted. */
export class ProcessPair {
  readonly #t: ExecutionContext;
  readonly #setup: PairSetup;
  readonly #hostPath: string;
  host: VproxyProcess;
  guest: VproxyProcess;

  constructor(t: ExecutionContext, setup: PairSetup) {
    this.#t = t;
    this.#setup = setup;
    this.#hostPath = setup.hostPath ?? join(temporaryFolder(t), 'channel.sock');
    this.host = this.startHost();
    this.guest = this.startGuest();
  }

  startHost(): VproxyProcess {
    const { host = [], hostOptions = {} } = this.#setup;
    this.host = spawnVproxy(this.#t, ['-c', `unix-listen:${this.#hostPath}`, ...host], hostOptions);
    return this.host;
  }

  startGuest(): VproxyProcess {
    const { guest = [], guestOptions = {}, guestPath = this.#hostPath } = this.#setup;
    this.guest = spawnVproxy(this.#t, ['-c', `unix-connect:${guestPath}`, ...guest], guestOptions);
    return this.guest;
  }

  /** Resolves when both sides have logged a session, in lines from these numbers on. */
  async established(from: { readonly host?: number; readonly guest?: number } = {}): Promise<void> {
    await Promise.all([
      this.host.waitForLine(ESTABLISHED, { from: from.host ?? 0 }),
      this.guest.waitForLine(ESTABLISHED, { from: from.guest ?? 0 }),
    ]);
  }
}

/** A pair with an established session. */
export async function processPair(t: ExecutionContext, setup: PairSetup): Promise<ProcessPair> {
  const pair = new ProcessPair(t, setup);
  await pair.established();
  return pair;
}

/** The number of descriptors that a process has open. */
export function descriptorCount({ pid }: VproxyProcess): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

// Two command lines with a session, one of which lets the other run commands, and `vproxy exec` through them.

/** How a shell's script ended. */
interface ScriptResult {
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
  const vproxy = `${process.execPath} ${join(PROJECT_ROOT, 'dist/program/vproxy.cjs')}`;
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
