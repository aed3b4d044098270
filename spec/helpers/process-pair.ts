/** Two command lines on one unix channel: the host listens on it, the guest connects. */
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { temporaryFolder } from './files.js';
import {
  ESTABLISHED,
  type PipedCommand,
  type RunResult,
  runPiped,
  runProgram,
  type SpawnOptions,
  spawnVproxy,
  TAKING_CONTROL,
  VPROXY,
  type VproxyProcess,
} from './vproxy-process.js';

export interface PairSetup {
  readonly host?: readonly string[];
  readonly guest?: readonly string[];
  readonly hostOptions?: SpawnOptions;
  readonly guestOptions?: SpawnOptions;
  /** Where the host listens. Default: in a folder of its own. */
  readonly hostPath?: string;
  /** Where the guest connects. Default: where the host listens. */
  readonly guestPath?: string;
}

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

export async function processPair(t: ExecutionContext, setup: PairSetup): Promise<ProcessPair> {
  const pair = new ProcessPair(t, setup);
  await pair.established();
  return pair;
}

// Two command lines with a session, one of which lets the other run commands, and `vproxy exec` through them.

export type ExecPair = Awaited<ReturnType<typeof execPair>>;

/** A pair with a session, whose guest has `args` and allows commands, and whose host has the control socket and `host`. */
export async function execPair(
  t: ExecutionContext,
  args: readonly string[] = ['--allow-exec'],
  { host = [], ...setup }: PairSetup = {},
) {
  const folder = temporaryFolder(t);
  const socket = join(folder, 'control.sock');
  const pair = await processPair(t, { ...setup, host: ['--control', socket, ...host], guest: args });
  await pair.host.waitForLine(TAKING_CONTROL);
  /** For commands: the control socket; `VPROXY`, the command line for a shell; `WORK`, an empty folder. */
  const env: Readonly<Record<string, string>> = { VPROXY_SOCKET: socket, VPROXY, WORK: folder };
  /** Starts `vproxy exec` with these words, on pipes held by the test. */
  const start = (...words: readonly string[]): PipedCommand => runPiped(t, ['exec', ...words], env);
  /** Runs it to its end, with these bytes as standard input. */
  const exec = async (words: readonly string[], input: string | Buffer = ''): Promise<RunResult> => {
    const { child, output, ended } = start(...words);
    child.stdin.end(input);
    const [stdout, { code, stderr }] = await Promise.all([output, ended]);
    return { code, stdout: stdout.toString(), stderr };
  };
  /** Runs a bash script in which `$VPROXY exec …` works. */
  const script = (text: string) => runProgram(['bash', '-c', text], { env: { ...process.env, ...env } });
  return { pair, env, folder, start, exec, script };
}
