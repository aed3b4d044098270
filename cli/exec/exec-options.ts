/** The options of `vproxy exec` and `vproxy shell`. */
import type { CommandOptions } from '../command/arguments.js';

const SHARED_OPTIONS = {
  channel: { value: 'LABEL', describe: 'The channel; also LABEL: before the command [default: the only one]' },
  'no-tty': { short: 'T', describe: 'Give the command no terminal' },
  cwd: { value: 'DIR', describe: 'The folder to run it in [default: the home there]' },
  env: {
    value: 'NAME[=VALUE]',
    isRepeatable: true,
    describe: 'Add to its environment; without a value, that of the variable here',
  },
  user: { value: 'NAME', describe: 'The user to run it as [default: who runs the proxy there]' },
} as const satisfies CommandOptions;

/** Those of `vproxy shell`. */
export const SHELL_OPTIONS = SHARED_OPTIONS satisfies CommandOptions;

/** Those of `vproxy exec`. */
export const EXEC_OPTIONS = {
  ...SHARED_OPTIONS,
  tty: { short: 't', describe: 'Give the command a terminal' },
  'no-stdin': { short: 'n', describe: 'Give it no standard input' },
  timeout: { value: 'SECONDS', describe: 'End it after so long, with status 124 [default: never]' },
  'kill-after': {
    value: 'SECONDS',
    describe: 'From the TERM that ends it to KILL; 30 at most once the caller has gone [default: 5]',
  },
  json: { describe: 'Print how it ended, and its output, as one JSON object' },
} as const satisfies CommandOptions;
