/** This machine as a place for the programs of the demonstration. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../../spec/helpers/files.js';
import { VproxyProcess } from '../../../spec/helpers/vproxy-process.js';
import type { CommandResult, Machine, Program, ProgramName } from './machine.js';

const SCRIPTS: Readonly<Record<ProgramName, string>> = {
  vproxy: 'dist/program/vproxy.cjs',
  sink: 'dist/tools/bench/demo/sink.js',
  push: 'dist/tools/bench/demo/push.js',
};

const VPROXY = join(PROJECT_ROOT, SCRIPTS.vproxy);

const UTILITY = 'storcli64';

/** Runs everything as local processes; sockets and the link are in `folder`. */
export class LocalMachine implements Machine {
  /** Where it may keep files. */
  readonly folder: string;
  /** The control socket of its vproxy, for `--control`. */
  readonly controlSocket: string;
  /** The socket of the storage broker, for `--storage-socket`. */
  readonly storageSocket: string;
  readonly #utility: string;

  constructor(folder: string) {
    this.folder = folder;
    this.controlSocket = join(folder, 'control.sock');
    this.storageSocket = join(folder, 'storage.sock');
    this.#utility = join(folder, UTILITY);
    symlinkSync(join(PROJECT_ROOT, 'dist/program/vproxy-storage.cjs'), this.#utility);
  }

  start(program: ProgramName, args: readonly string[]): Promise<Program> {
    const child = new VproxyProcess(args, { script: SCRIPTS[program] });
    return Promise.resolve({
      waitForLine: (pattern, timeoutMs) => child.waitForLine(pattern, { timeoutMs }),
      lastLine: () => Promise.resolve(child.lines.at(-1) ?? ''),
      kill: async () => {
        child.kill('SIGKILL');
        await child.exited;
      },
      stop: async () => {
        await child.stop();
      },
    });
  }

  runUtility(args: readonly string[]): Promise<CommandResult> {
    return this.#run(this.#utility, args);
  }

  /** Runs a vproxy command on this machine to its end. */
  runVproxy(args: readonly string[]): Promise<CommandResult> {
    return this.#run(process.execPath, [VPROXY, ...args]);
  }

  /** The same, in this terminal. Rejects if it fails. */
  async showVproxy(args: readonly string[]): Promise<void> {
    const child = spawn(process.execPath, [VPROXY, ...args], { stdio: 'inherit', env: this.#environment() });
    const [status] = (await once(child, 'exit')) as [number | null];
    if (status !== 0) throw new Error(`vproxy ${args.join(' ')}: status ${status}`);
  }

  #run(file: string, args: readonly string[]): Promise<CommandResult> {
    return new Promise((resolve) => {
      const child = execFile(file, args, { env: this.#environment() }, (_error, stdout, stderr) => {
        resolve({ stdout, stderr, status: child.exitCode });
      });
    });
  }

  #environment(): NodeJS.ProcessEnv {
    return { ...process.env, VPROXY_STORAGE_SOCKET: this.storageSocket, VPROXY_SOCKET: this.controlSocket };
  }
}
