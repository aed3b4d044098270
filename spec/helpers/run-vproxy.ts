/** The real command line of vproxy, run to its end. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { PROJECT_ROOT } from './project-root.js';
import { withoutControl } from './without-control.js';

/** What a command left. */
export interface RunResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** How a command is run. */
export interface RunOptions {
  /** Set on top of this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Takes root's right to pass permissions away. Needs setpriv(1) where the test runs as root. Default false. */
  readonly obeysPermissions?: boolean;
}

const TIMEOUT_MS = 20_000;

/** Runs `vproxy` with `args`; one that does not end by itself is killed, and its `code` is null. */
export function runVproxy(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const { env = {}, obeysPermissions = false } = options;
  const command = [process.execPath, join(PROJECT_ROOT, 'dist/cli/vproxy.js'), ...withoutControl(args)];
  if (obeysPermissions && process.getuid?.() === 0) {
    command.unshift('setpriv', '--bounding-set', '-dac_override,-dac_read_search');
  }
  const [file = '', ...words] = command;
  return new Promise((resolve) => {
    const settings = { env: { ...process.env, ...env }, timeout: TIMEOUT_MS, killSignal: 'SIGKILL' } as const;
    const child = execFile(file, words, settings, (_error, stdout, stderr) => {
      resolve({ code: child.exitCode, stdout, stderr });
    });
  });
}
