/** `vproxy check FILE`: whether a configuration file is right, and what vproxy would do with it. */
import type { CommandModule } from 'yargs';
import { BadFileError } from '../../lib/config/bad-file-error.js';
import type { Configuration, FlagLayer } from '../../lib/config/configuration.js';
import { mergeConfiguration } from '../../lib/config/merge-configuration.js';
import { formatProblem, type Problem } from '../../lib/config/problem.js';
import { toVproxyError } from '../../lib/errors.js';
import { formatForwardSpec } from '../../lib/forward/spec.js';
import { escapeText } from '../../lib/util/escape.js';
import { withKeyFiles } from '../key-files.js';
import { describeAgent } from '../package-info.js';

/** The arguments of the command. */
export interface CheckArguments {
  readonly file: string;
}

const NO_FLAGS: FlagLayer = { settings: {}, channels: [], forwards: [], vsockPorts: {} };

/** The command for yargs. It prints what is wrong, a line each, and sets the exit status. */
export const checkCommand: CommandModule<object, CheckArguments> = {
  command: 'check <file>',
  describe: 'Check a configuration file, and print everything that is wrong with it',
  builder: (yargs) =>
    yargs.positional('file', { type: 'string', demandOption: true, describe: 'The file, TOML or JSON' }),
  handler: async ({ file }) => {
    try {
      const configuration = await readAlone(file);
      process.stdout.write(`${escapeText(file, 1024)}: ok\n${describe(configuration)}`);
    } catch (error) {
      if (!(error instanceof BadFileError)) throw error;
      for (const problem of error.problems) process.stderr.write(`${problem}\n`);
      process.exitCode = error.row.exit;
    }
  },
};

/** What is in force with a file and no other argument. Rejects with a `BadFileError`. */
async function readAlone(file: string): Promise<Configuration> {
  const { inspectConfigurationFile } = await import('../../lib/config/read-configuration-file.js');
  const { layer, problems } = await inspectConfigurationFile(file);
  if (layer.channels.length === 0) {
    throw bad(file, problems.length > 0 ? problems : [{ where: ['channels'], message: 'there are none' }]);
  }
  const credentials = process.env['CREDENTIALS_DIRECTORY'] ?? null;
  const configuration = mergeConfiguration(...withKeyFiles(layer, NO_FLAGS, credentials));
  const refused = await findRefused(configuration);
  if (problems.length + refused.length > 0) throw bad(file, [...problems, ...refused]);
  return configuration;
}

/** What only those find that would run: listeners that need `insecure`, users that are not known. Nothing is started. */
async function findRefused({ channels }: Configuration): Promise<Problem[]> {
  const { Proxy } = await import('../../lib/proxy/proxy.js');
  return channels.flatMap((channel) => {
    try {
      new Proxy({ channels: [channel], agent: describeAgent() });
      return [];
    } catch (error) {
      return [{ where: ['channels', channel.label], message: toVproxyError(error).message }];
    }
  });
}

function bad(file: string, problems: readonly Problem[]): BadFileError {
  return new BadFileError(problems.map((problem) => formatProblem(file, problem)));
}

/** A line for each channel, and for each of its forwards. */
function describe({ channels }: Configuration): string {
  const lines = channels.flatMap(({ label, address, forwards = [], template = [] }) => [
    `${label}: ${escapeText(address, 1024)}`,
    ...[...template, ...forwards.map((spec) => ({ direction: spec.direction, text: formatForwardSpec(spec) }))].map(
      ({ direction, text }) => `  ${direction === 'outgoing' ? '-o' : '-i'} ${escapeText(text, 1024)}`,
    ),
  ]);
  return lines.map((line) => `${line}\n`).join('');
}
