/** This machine as a place for the programs of the demonstration. */
import { execFile } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../spec/helpers/files.js';
import { VproxyProcess } from '../../spec/helpers/vproxy-process.js';
import type { CommandResult, Machine, Program, ProgramName } from './machine.js';

const SCRIPTS: Readonly<Record<ProgramName, string>> = {
  vproxy: 'dist/program/vproxy.cjs',
  sink: 'dist/bench/demo/sink.js',
  push: 'dist/bench/demo/push.js',
};

const UTILITY = 'storcli64';

/** Runs everything as processes of its own; its socket and its link are in `folder`. */
export class LocalMachine implements Machine {
  /** The socket of the storage broker, for `--storage-socket`. */
  readonly storageSocket: string;
  readonly #utility: string;

  constructor(folder: string) {
    this.storageSocket = join(folder, 'storage.sock');
    this.#utility = join(folder, UTILITY);
    symlinkSync(join(PROJECT_ROOT, 'dist/program/vproxy-storage.cjs'), this.#utility);
  }

  start(program: ProgramName, args: readonly string[]): Promise<Program> {
    const child = new VproxyProcess(args, { script: SCRIPTS[program] });
    return Promise.resolve({
      waitForLine: (pattern, timeoutMs) => child.waitForLine(pattern, { timeoutMs }),
      lastLine: () => Promise.resolve(child.lines.at(-1) ?? ''),
      stop: async () => {
        await child.stop();
      },
    });
  }

  runUtility(args: readonly string[]): Promise<CommandResult> {
    const env = { ...process.env, VPROXY_STORAGE_SOCKET: this.storageSocket };
    return new Promise((resolve) => {
      const child = execFile(this.#utility, args, { env }, (_error, stdout, stderr) => {
        resolve({ stdout, stderr, status: child.exitCode });
      });
    });
  }
}
